//! The command line.

use std::path::PathBuf;

use lexopt::prelude::*;

pub(crate) const HELP: &str = "\
Trains one linear classifier with four choices of the loss and compares the
mistakes that each makes on held-out cases.

Usage: cargo run --example mislabel_costs -- [OPTIONS]

Options:
  --cost-ratio R   a missed case of class 0 costs as much as R false alarms [default: 20]
  --csv FILE       cases of your own, instead of the breast cancer data
  --chart PATH     where to write the chart [default: target/mislabel_costs.svg]
  -h, --help       print this text

FILE has one case per line: numeric features, then the label, which is 0 for the class that
is costly to miss and 1 for the other. Its first line may be
  - a header of column names, none of which is a number;
  - `cases,features,name of class 0,name of class 1`, as in the data sets of scikit-learn;
  - the first case.
";

pub(crate) struct Options {
    pub(crate) cost_ratio: f64,
    pub(crate) csv: Option<PathBuf>,
    pub(crate) chart: PathBuf,
}

impl Options {
    /// Reads the command line; `None` asks for the help text.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut options = Options { cost_ratio: 20.0, csv: None, chart: PathBuf::from("target/mislabel_costs.svg") };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Short('h') | Long("help") => return Ok(None),
                Long("cost-ratio") => {
                    let text = parser.value()?.string()?;
                    // It becomes an f32 weight, so that is where it has to be finite and above 0.
                    let usable = |ratio: &f64| (*ratio as f32).is_finite() && *ratio as f32 > 0.0;
                    options.cost_ratio = text
                        .parse()
                        .ok()
                        .filter(usable)
                        .ok_or_else(|| format!("--cost-ratio: expected a finite number above 0, found {text:?}"))?;
                }
                Long("csv") => options.csv = Some(parser.value()?.into()),
                Long("chart") => options.chart = parser.value()?.into(),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(options))
    }
}
