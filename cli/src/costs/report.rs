//! Tables of the results.

use std::io::{self, Write};

use super::folds::FOLDS;
use super::table::Table;
use super::trials::{Decision, Figures, Trials};
use super::ways::Way;

pub(crate) fn write(
    out: &mut dyn Write,
    table: &Table,
    costly: usize,
    by_ratio: bool,
    trials: &Trials<'_>,
) -> io::Result<()> {
    let name = &table.classes[costly];
    let counts: Vec<String> =
        table.counts().iter().zip(&table.classes).map(|(count, class)| format!("{count} {class}")).collect();
    let (cases, features, deals) = (table.labels.len(), table.features.len(), trials.plan.deals);
    writeln!(out, "{cases} cases: {}; {features} features.", counts.join(", "))?;
    if by_ratio {
        let ratio = trials.plan.base_factor;
        writeln!(out, "A missed case of {name} costs {ratio}, any other mistake 1 (--costly, --cost-ratio).")?;
    } else {
        write_costs(out, table, trials)?;
    }
    let deals = if deals == 1 { "one deal".into() } else { format!("{deals} deals (± standard deviation)") };
    writeln!(out, "Every case is held out once in {FOLDS}-fold cross-validation; means over {deals} into folds.\n")?;
    write_mistakes(out, table.classes.len() > 2, trials)?;
    writeln!(
        out,
        "\nTraining by costs tilts the predicted probabilities. The tilt is undone before the decision for the least expected\n\
         cost; otherwise costs would count twice, in the loss and in the decision."
    )?;
    if trials.plan.calibrate {
        writeln!(out, "Logits are divided by a temperature from training cases that are held out in turn.")?;
    }
    if trials.plan.penalties().len() > 1 {
        write_penalties(out, trials)?;
    }
    Ok(())
}

fn write_costs(out: &mut dyn Write, table: &Table, trials: &Trials<'_>) -> io::Result<()> {
    let width = table.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0).max(8);
    writeln!(out, "What it costs to say the class of a column where that of the row is true:")?;
    let header: String = table.classes.iter().map(|class| format!(" {class:>width$}")).collect();
    writeln!(out, "{:width$}{header}", "")?;
    for (truth, class) in table.classes.iter().enumerate() {
        let row: String =
            (0..table.classes.len()).map(|said| format!(" {:>width$}", trials.cost(truth, said))).collect();
        writeln!(out, "{class:width$}{row}")?;
    }
    Ok(())
}

/// Table of the mistakes of each loss and decision rule, with the base factor and penalty.
fn write_mistakes(out: &mut dyn Write, more_classes: bool, trials: &Trials<'_>) -> io::Result<()> {
    let others = if more_classes { format!("{:>8}", "others") } else { String::new() };
    let header = format!("{:>8}{:>14}{others}{:>18}", "missed", "false alarms", "total cost");
    let width = header.len();
    let [first, second] = Decision::BOTH.map(Decision::name);
    writeln!(out, "{:18}{first:>width$}{second:>width$}", "")?;
    writeln!(out, "{:18}{header}{header}", "trained by")?;
    for way in Way::ALL {
        write!(out, "{:18}", way.name())?;
        for decision in Decision::BOTH {
            let figures = trials.figures(way, decision, trials.plan.base_factor, trials.plan.base_penalty);
            let others = if more_classes { format!("{:>8.1}", figures.others) } else { String::new() };
            write!(out, "{:>8.1}{:>14.1}{others}{:>18}", figures.missed, figures.false_alarms, cost(&figures))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Table of total costs by penalty.
fn write_penalties(out: &mut dyn Write, trials: &Trials<'_>) -> io::Result<()> {
    let penalties = trials.plan.penalties();
    writeln!(
        out,
        "\nTotal cost by the penalty on the squared coefficients; the larger, the less the classifier can express:\n"
    )?;
    let header: String = penalties.iter().map(|penalty| format!("{penalty:>16}")).collect();
    writeln!(out, "{:18}{:21}{header}", "trained by", "decision")?;
    for way in Way::ALL {
        for decision in Decision::BOTH {
            write!(out, "{:18}{:21}", way.name(), decision.name())?;
            for &penalty in &penalties {
                let figures = trials.figures(way, decision, trials.plan.base_factor, penalty);
                write!(out, "{:>16}", cost(&figures))?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn cost(figures: &Figures) -> String {
    // No decimals for large totals.
    let digits = if figures.cost < 1e4 { 1 } else { 0 };
    if figures.spread == 0.0 {
        format!("{:.digits$}", figures.cost)
    } else {
        format!("{:.digits$} ± {:.digits$}", figures.cost, figures.spread)
    }
}
