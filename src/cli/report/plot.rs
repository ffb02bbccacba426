//! The plot: how long an operation takes, beside what the original reports.

use super::page::{ORIGINAL_READ, ORIGINAL_WRITE, ms};
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
    bars(path, &rows(speeds))
        .map_err(|e| Failure::not_done(format!("cannot draw {}: {e}", path.display())))
}

/// What is drawn, from the top.
fn rows(speeds: &[Speed]) -> Vec<(String, Duration, RGBColor)> {
    let mut rows = vec![("write, original".to_owned(), ORIGINAL_WRITE, GREY)];
    let label = |what: &str, speed: &Speed| format!("{what}, {}", speed.kind.text());
    let clients = |n: usize| match n {
        1 => "1 client".to_owned(),
        n => format!("{n} clients"),
    };
    for speed in speeds {
        for times in &speed.writes {
            let what = format!("write, {}", clients(times.clients));
            rows.push((label(&what, speed), times.each, WRITE));
        }
    }
    rows.push(("read, original".to_owned(), ORIGINAL_READ, GREY));
    for speed in speeds {
        for times in &speed.reads {
            let what = format!("read, {}", clients(times.clients));
            rows.push((label(&what, speed), times.each, READ));
        }
    }
    for speed in speeds {
        rows.push((label("fail a node", speed), speed.fail.mean, FAULT));
        rows.push((label("recover a node", speed), speed.recover.mean, FAULT));
    }
    rows
}

const GREY: RGBColor = RGBColor(150, 150, 150);
const WRITE: RGBColor = RGBColor(31, 119, 180);
const READ: RGBColor = RGBColor(44, 160, 44);
const FAULT: RGBColor = RGBColor(214, 117, 39);

fn bars(
    path: &Path,
    rows: &[(String, Duration, RGBColor)],
) -> Result<(), Box<dyn std::error::Error>> {
    let count = rows.len() as i32;
    let height = 90 + 26 * rows.len() as u32;
    let area = SVGBackend::new(path, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "Time of an operation, in ms (logarithmic)",
            ("sans-serif", 18),
        )
        .margin(10)
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
        let ends = [
            (SCALE.start, SegmentValue::Exact(i)),
            (value, SegmentValue::Exact(i + 1)),
        ];
        let mut bar = Rectangle::new(ends, colour.filled());
        bar.set_margin(3, 3, 0, 0);
        chart.draw_series([bar])?;
        let label = Text::new(
            format!(" {}", ms(*time)),
            (value, SegmentValue::CenterOf(i)),
            TextStyle::from(("sans-serif", 13)).pos(Pos::new(HPos::Left, VPos::Center)),
        );
        chart.draw_series([label])?;
    }
    area.present()?;
    Ok(())
}
