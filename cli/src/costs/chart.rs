//! SVG chart of total cost against cost ratio: a panel for each decision rule, a line for each loss.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::trials::{Decision, Figures, Trials};
use super::ways::Way;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Distinguishable with colour blindness; in grey, marks and dashes distinguish the lines.
const COLOURS: [RGBColor; 4] = [BLACK, RGBColor(0, 114, 178), RGBColor(0, 135, 100), RGBColor(200, 80, 0)];
/// Lengths of dashes and gaps; a gap of 0 is a solid line.
const DASHES: [(i32, i32); 4] = [(1, 0), (2, 4), (9, 5), (1, 0)];

/// Factors on the x axis: cost ratios, or multiples of the costs in a matrix; the base factor of the table among them.
pub(crate) fn factors(base: f64, by_matrix: bool) -> Vec<f64> {
    let mut factors =
        if by_matrix { vec![0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0] } else { vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0] };
    if !factors.contains(&base) {
        factors.push(base);
        factors.sort_by(f64::total_cmp);
    }
    factors
}

pub(crate) fn write(path: &Path, trials: &Trials<'_>, costly: &str, by_matrix: bool) -> Result<()> {
    let of = if by_matrix { "in multiples of that in the matrix" } else { "where any other mistake costs 1" };
    let mut svg = String::new();
    draw(&mut svg, trials, &format!("cost of a missed case of {costly}, {of}"))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, svg)?;
    Ok(())
}

fn draw(svg: &mut String, trials: &Trials<'_>, description: &str) -> Result<()> {
    let area = SVGBackend::with_string(svg, (1000, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let (legend, below) = area.split_vertically(44);
    draw_legend(&legend)?;
    let (panels, bottom) = below.split_vertically(406);
    let style = ("sans-serif", 17).into_text_style(&bottom).pos(Pos::new(HPos::Center, VPos::Center));
    bottom.draw(&Text::new(description.to_owned(), (530, 10), style))?;
    let range = cost_range(trials);
    for (panel, decision) in panels.split_evenly((1, 2)).iter().zip(Decision::BOTH) {
        draw_panel(panel, trials, decision, range)?;
    }
    area.present()?;
    Ok(())
}

/// log10 of the least and the largest cost drawn, the common scale of both panels.
fn cost_range(trials: &Trials<'_>) -> (f64, f64) {
    let points = Way::ALL.into_iter().flat_map(|way| Decision::BOTH.map(|decision| points(trials, way, decision)));
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (_, figures) in points.flatten() {
        let (from, to) = bar(&figures);
        (low, high) = (low.min(from), high.max(to));
    }
    if low < high { (low - 0.03, high + 0.03) } else { (low - 1.0, low + 1.0) }
}

/// Error bar: log10 of the mean cost ± its standard deviation. Costs below 0.1 are drawn as 0.1.
fn bar(figures: &Figures) -> (f64, f64) {
    (logarithm(figures.cost - figures.spread), logarithm(figures.cost + figures.spread))
}

fn logarithm(cost: f64) -> f64 {
    cost.max(0.1).log10()
}

fn points(trials: &Trials<'_>, way: Way, decision: Decision) -> Vec<(f64, Figures)> {
    let figures = |&factor: &f64| (factor.log10(), trials.figures(way, decision, factor, trials.plan.base_penalty));
    trials.plan.factors.iter().map(figures).collect()
}

/// Logarithmic axis with ticks at 1, 2 and 5 times the powers of ten.
struct LogAxis {
    from: f64,
    to: f64,
}

impl Ranged for LogAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.from..self.to).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        let exponents = self.from.floor() as i32..=self.to.ceil() as i32;
        let ticks =
            exponents.flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit: f64| digit.log10() + f64::from(exponent)));
        let ticks: Vec<f64> = ticks.filter(|tick| (self.from - 1e-9..=self.to + 1e-9).contains(tick)).collect();
        // Over many decades the powers of ten alone.
        let is_power = |tick: &f64| (tick - tick.round()).abs() < 1e-9;
        if ticks.len() > 12 { ticks.into_iter().filter(is_power).collect() } else { ticks }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for LogAxis {
    fn format(value: &f64) -> String {
        // The tick value, off by the rounding of its logarithm.
        let number = 10_f64.powf(*value);
        let digits = if number < 0.95 { 1 } else { 0 };
        if number < 1e6 { format!("{number:.digits$}") } else { format!("{number:.0e}") }
    }
}

fn draw_panel(panel: &Area<'_>, trials: &Trials<'_>, decision: Decision, range: (f64, f64)) -> Result<()> {
    let factors = &trials.plan.factors;
    let logarithms = (factors[0].log10(), factors[factors.len() - 1].log10());
    let x = LogAxis { from: logarithms.0 - 0.06, to: logarithms.1 + 0.06 };
    let mut chart = ChartBuilder::on(panel)
        .caption(format!("deciding for the {}", decision.name()), ("sans-serif", 20))
        .margin_left(12)
        .margin_right(12)
        .x_label_area_size(30)
        .y_label_area_size(66)
        .build_cartesian_2d(x, LogAxis { from: range.0, to: range.1 })?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .y_desc("total cost")
        .axis_desc_style(("sans-serif", 17))
        .label_style(("sans-serif", 16))
        .draw()?;
    for (number, way) in Way::ALL.into_iter().enumerate() {
        // Shifted sideways, so that the error bars do not overlap.
        let shift = (number as f64 - 1.5) * 0.018;
        let points: Vec<(f64, Figures)> =
            points(trials, way, decision).into_iter().map(|(x, figures)| (x + shift, figures)).collect();
        let bars = points.iter().map(|(x, figures)| {
            let (from, to) = bar(figures);
            PathElement::new([(*x, from), (*x, to)], COLOURS[number].mix(0.6).stroke_width(2))
        });
        chart.draw_series(bars)?;
        let line: Vec<(f64, f64)> = points.iter().map(|(x, figures)| (*x, logarithm(figures.cost))).collect();
        let style = COLOURS[number].stroke_width(2);
        match DASHES[number] {
            (_, 0) => chart.draw_series(LineSeries::new(line.clone(), style))?,
            (dash, gap) => chart.draw_series(DashedLineSeries::new(line.clone(), dash, gap, style))?,
        };
        for point in line {
            let at = chart.backend_coord(&point);
            let origin = panel.get_pixel_range();
            draw_mark(panel, number, (at.0 - origin.0.start, at.1 - origin.1.start))?;
        }
    }
    Ok(())
}

/// Marker of a loss: circle, triangle, square, filled circle.
fn draw_mark(area: &Area<'_>, number: usize, (x, y): (i32, i32)) -> Result<()> {
    let (line, fill) = (COLOURS[number].stroke_width(2), WHITE.filled());
    match number {
        0 => {
            area.draw(&Circle::new((x, y), 5, fill))?;
            area.draw(&Circle::new((x, y), 5, line))?;
        }
        1 => {
            area.draw(&TriangleMarker::new((x, y), 7, COLOURS[number].filled()))?;
        }
        2 => {
            area.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], fill))?;
            area.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], line))?;
        }
        _ => area.draw(&Circle::new((x, y), 5, COLOURS[number].filled()))?,
    }
    Ok(())
}

fn draw_legend(area: &Area<'_>) -> Result<()> {
    for (number, way) in Way::ALL.into_iter().enumerate() {
        let (x, y) = (90 + 225 * number as i32, 26);
        let style = COLOURS[number].stroke_width(2);
        let line = [(x, y), (x + 50, y)];
        match DASHES[number] {
            (_, 0) => area.draw(&PathElement::new(line, style))?,
            (dash, gap) => area.draw(&DashedPathElement::new(line, dash, gap, style))?,
        }
        draw_mark(area, number, (x + 25, y))?;
        let text = ("sans-serif", 18).into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(way.name(), (x + 60, y), text))?;
    }
    Ok(())
}
