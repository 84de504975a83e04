//! The held-out cost over the training steps, as an SVG file.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::prelude::*;

/// Draws one line per name, whose values are those after each step.
pub(crate) fn write(path: &Path, lines: &[(String, Vec<f64>)]) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, draw(lines)?)?;
    Ok(())
}

fn draw(lines: &[(String, Vec<f64>)]) -> Result<String, Box<dyn Error>> {
    // Told apart by colour-blind readers too.
    const COLOURS: [RGBColor; 4] =
        [RGBColor(213, 94, 0), RGBColor(0, 114, 178), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

    let steps = lines.iter().map(|(_, costs)| costs.len()).max().unwrap_or(0);
    let highest = |from: usize| lines.iter().flat_map(|(_, costs)| &costs[from..]).fold(0.0, |a: f64, &b| a.max(b));
    // The legend stands over the later steps: keep the lines below it.
    let top = (1.05 * highest(0)).max(1.4 * highest(steps / 2));
    let top = if top > 0.0 { top } else { 1.0 };

    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (800, 500)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("What the mistakes on held-out cases cost", ("sans-serif", 24))
        .margin(20)
        .x_label_area_size(45)
        .y_label_area_size(65)
        .build_cartesian_2d(1..steps, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("step of gradient descent")
        .y_label_formatter(&label)
        .y_desc("total cost (1 = a false alarm)")
        .axis_desc_style(("sans-serif", 16))
        .label_style(("sans-serif", 14))
        .draw()?;
    for ((name, costs), colour) in lines.iter().zip(COLOURS) {
        let style = colour.stroke_width(2);
        let last = costs.last().copied().unwrap_or(0.0);
        chart
            .draw_series(LineSeries::new((1..).zip(costs.iter().copied()), style))?
            .label(format!("{name}: {last:.1} at the end"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 15))
        .legend_area_size(34)
        .margin(12)
        .draw()?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(svg)
}

fn label(cost: &f64) -> String {
    // The values of an axis carry rounding errors, and long numbers would run into its description.
    if *cost < 1e6 { ((cost * 100.0).round() / 100.0).to_string() } else { format!("{cost:.1e}") }
}
