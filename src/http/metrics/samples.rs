//! Numbers without labels, as metrics have them.

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::time::Duration;

/// A number: its name, what it says, its unit if it has one.
pub type Sample = (&'static str, &'static str, Option<Unit>, u64);

/// Writes numbers that go up and down.
pub fn gauges(
    encoder: &mut DescriptorEncoder,
    samples: impl IntoIterator<Item = Sample>,
) -> fmt::Result {
    for (name, help, unit, value) in samples {
        let gauge = ConstGauge::new(value);
        let metric = encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
        gauge.encode(metric)?;
    }
    Ok(())
}

/// Writes totals.
pub fn counters(
    encoder: &mut DescriptorEncoder,
    samples: impl IntoIterator<Item = Sample>,
) -> fmt::Result {
    for (name, help, unit, value) in samples {
        let counter = ConstCounter::new(value);
        let metric = encoder.encode_descriptor(name, help, unit.as_ref(), counter.metric_type())?;
        counter.encode(metric)?;
    }
    Ok(())
}

/// Writes a total of time.
pub fn seconds(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    time: Duration,
) -> fmt::Result {
    let spent = ConstCounter::new(time.as_secs_f64());
    let unit = Some(&Unit::Seconds);
    let metric = encoder.encode_descriptor(name, help, unit, spent.metric_type())?;
    spent.encode(metric)
}
