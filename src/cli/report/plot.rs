//! The plot: the median time of an operation. Dots, not bars: on a logarithmic scale a length means
//! nothing.

use super::page::{EARLIER_READ, EARLIER_WRITE, ms};
use super::speed::Speed;
use crate::cli::failure::Failure;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;
use std::time::Duration;

/// The scale, in milliseconds.
const SCALE: std::ops::Range<f64> = 0.01..10_000.0;

/// Draws the plot into a file.
pub fn draw(path: &Path, speeds: &[Speed]) -> Result<(), Failure> {
    dots(path, &rows(speeds))
        .map_err(|e| Failure::not_done(format!("cannot draw {}: {e}", path.display())))
}

/// The rows of the drawing, from the top.
fn rows(speeds: &[Speed]) -> Vec<(String, Duration, RGBColor)> {
    let mut rows = vec![("write, an earlier store".to_owned(), EARLIER_WRITE, GREY)];
    let label = |what: &str, speed: &Speed| format!("{what}, {}", speed.kind.text());
    let clients = |n: usize| match n {
        1 => "1 client".to_owned(),
        n => format!("{n} clients"),
    };
    for speed in speeds {
        for times in &speed.writes {
            let what = format!("write, {}", clients(times.clients));
            rows.push((label(&what, speed), times.median, WRITE));
        }
    }
    rows.push(("read, an earlier store".to_owned(), EARLIER_READ, GREY));
    for speed in speeds {
        for times in &speed.reads {
            let what = format!("read, {}", clients(times.clients));
            rows.push((label(&what, speed), times.median, READ));
        }
    }
    for speed in speeds {
        rows.push((label("fail a node", speed), speed.fail.median, FAULT));
        rows.push((label("recover a node", speed), speed.recover.median, FAULT));
    }
    rows
}

const GREY: RGBColor = RGBColor(150, 150, 150);
const WRITE: RGBColor = RGBColor(31, 119, 180);
const READ: RGBColor = RGBColor(44, 160, 44);
const FAULT: RGBColor = RGBColor(214, 117, 39);

fn dots(
    path: &Path,
    rows: &[(String, Duration, RGBColor)],
) -> Result<(), Box<dyn std::error::Error>> {
    let count = rows.len() as i32;
    let height = 90 + 26 * rows.len() as u32;
    let area = SVGBackend::new(path, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "Median time of an operation, in ms (logarithmic scale)",
            ("sans-serif", 18),
        )
        .margin(10)
        // The last number of the scale and the text beside the slowest dot reach beyond it.
        .margin_right(80)
        .x_label_area_size(30)
        .y_label_area_size(260)
        .build_cartesian_2d(SCALE.log_scale(), (0..count - 1).into_segmented())?;
    let name = |at: &SegmentValue<i32>| match at {
        SegmentValue::CenterOf(i) => {
            let row = usize::try_from(count - 1 - *i)
                .ok()
                .and_then(|i| rows.get(i));
            row.map_or_else(String::new, |(label, ..)| label.clone())
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(rows.len())
        .y_label_formatter(&name)
        .x_label_formatter(&|ms| format!("{ms}"))
        .draw()?;
    for (i, (_, time, colour)) in (0..count).rev().zip(rows) {
        let value = (time.as_secs_f64() * 1e3).clamp(SCALE.start, SCALE.end);
        let style = TextStyle::from(("sans-serif", 13)).pos(Pos::new(HPos::Left, VPos::Center));
        let dot = EmptyElement::at((value, SegmentValue::CenterOf(i)))
            + Circle::new((0, 0), 5, colour.filled())
            + Text::new(ms(*time), (10, 0), style);
        chart.draw_series([dot])?;
    }
    area.present()?;
    Ok(())
}
