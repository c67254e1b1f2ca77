//! `speedtrap cost`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::print;
use super::table::table;
use crate::cost::{Advice, Bill, Load, PRICES, Prices, advice, bill, least_shards};
use crate::exit::{Exit, Stop};

/// Arguments of `cost`.
#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// Readings a second, on the average of a month.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = not_negative)]
    events_per_second: f64,
    /// Share of the readings that are violations, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.07, value_parser = share)]
    violations: f64,
    /// Shards of the stream that readings arrive on. Default: the template's 2, or as many as the load needs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    shards: Option<u32>,
    /// Readers get records pushed (enhanced fan-out) instead of polling.
    #[arg(long)]
    fan_out: bool,
    /// Hours for which the streams keep records.
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(24..=8760))]
    retention: u32,
    /// Nodes of Speedtrap, each a machine of its own.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    nodes: u32,
    /// Devices connected to IoT Core; 0 for an ingest lane on another broker.
    #[arg(long, value_name = "N", default_value_t = 1)]
    devices: u32,
    /// Characters of a text.
    #[arg(long, value_name = "N", default_value_t = 240)]
    text_characters: usize,
    /// Nodes of a Redshift cluster that is there for the drivers alone.
    #[arg(long, value_name = "N", default_value_t = 0)]
    redshift_nodes: u32,
    /// Every event is stored, not only violations (persist.raw_table).
    #[arg(long)]
    raw_table: bool,
    /// Nobody is texted.
    #[arg(long)]
    no_texts: bool,
    /// TOML file of prices instead of the one that the program carries; see deploy/aws/prices.toml.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Shows JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Page<'a> {
    schema: u32,
    region: &'a str,
    prices_as_of: &'a str,
    prices_unverified: &'a [String],
    load: &'a Load,
    least_shards: u32,
    #[serde(flatten)]
    bill: &'a Bill,
    lower: &'a [Advice],
}

/// Shows what a month costs, and what would lower it.
///
/// # Errors
/// When the file of prices cannot be read.
pub(crate) fn cost(args: &CostArgs) -> Result<Exit, Stop> {
    let prices = prices(args.prices.as_deref())?;
    let load = load(args);
    let (bill, lower) = (bill(&load, &prices), advice(&load, &prices));
    let page = Page {
        schema: 1,
        region: &prices.region,
        prices_as_of: &prices.as_of,
        prices_unverified: &prices.unverified,
        load: &load,
        least_shards: least_shards(load.events_per_second),
        bill: &bill,
        lower: &lower,
    };
    if args.json {
        let json =
            serde_json::to_string(&page).map_err(|error| Stop::new(Exit::Failed, "the bill cannot be written").why(error))?;
        print(&(json + "\n"));
    } else {
        print(&render(&page));
    }
    Ok(Exit::Ok)
}

fn prices(file: Option<&std::path::Path>) -> Result<Prices, Stop> {
    let bad = |why: String| {
        Stop::new(Exit::BadConfig, "the prices cannot be used").why(why).next("write them as deploy/aws/prices.toml has them")
    };
    let text = match file {
        None => PRICES.to_owned(),
        Some(file) => std::fs::read_to_string(file).map_err(|error| bad(format!("`{}`: {error}", file.display())))?,
    };
    Prices::read(&text).map_err(bad)
}

fn load(args: &CostArgs) -> Load {
    Load {
        events_per_second: args.events_per_second,
        violations: args.violations,
        shards: args.shards.unwrap_or_else(|| least_shards(args.events_per_second).max(2)),
        fan_out: args.fan_out,
        retention_hours: args.retention,
        nodes: args.nodes,
        devices: args.devices,
        text_characters: args.text_characters,
        redshift_nodes: args.redshift_nodes,
        raw_table: args.raw_table,
        texts: !args.no_texts,
    }
}

/// Writing to a String cannot fail, so the results are dropped here.
fn render(page: &Page<'_>) -> String {
    let Page { bill, load, .. } = page;
    let mut out = format!(
        "{} readings a second, {} % violations, {} shards, in {}; prices of {}, in US dollars a month\n\n",
        load.events_per_second,
        (load.violations * 1_000.0).round() / 10.0,
        load.shards,
        page.region,
        page.prices_as_of
    );
    let mut items = table(&["SERVICE", "WHAT", "DOLLARS"]);
    for item in &bill.items {
        items.add_row([item.service.to_owned(), item.what.clone(), format!("{:.2}", item.dollars)]);
    }
    items.add_row(["all".to_owned(), String::new(), format!("{:.2}", bill.dollars)]);
    let _infallible = writeln!(out, "{}", items.trim_fmt());
    if let Some(each) = bill.dollars_per_million_events {
        let _infallible = writeln!(out, "\n{each:.2} dollars for a million readings, without texts");
    }
    if !page.prices_unverified.is_empty() {
        let _infallible = writeln!(out, "\nprices that nobody has verified: {}", page.prices_unverified.join(", "));
    }
    if load.shards < page.least_shards {
        let _infallible = writeln!(out, "\n{} shards cannot carry this load; it needs {}", load.shards, page.least_shards);
    }
    if !page.lower.is_empty() {
        out.push_str("\nWhat would lower it:\n");
    }
    for idea in page.lower {
        let _infallible = writeln!(out, "  {:>10.2}  {}", -idea.saves, idea.what);
    }
    out
}

fn not_negative(text: &str) -> Result<f64, String> {
    number_within(text, f64::MAX)
}

fn share(text: &str) -> Result<f64, String> {
    number_within(text, 1.0)
}

fn number_within(text: &str, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if (0.0..=most).contains(&number) { Ok(number) } else { Err(format!("must be from 0 to {most}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!((share("0.5"), not_negative("0")), (Ok(0.5), Ok(0.0)));
        for text in ["1.5", "-1", "NaN", "x"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_load_that_the_shards_cannot_carry_is_told() {
        let prices = prices(None).expect("the program's own prices");
        let load = Load {
            events_per_second: 5_000.0,
            violations: 0.07,
            shards: 2,
            fan_out: false,
            retention_hours: 24,
            nodes: 3,
            devices: 1,
            text_characters: 100,
            redshift_nodes: 0,
            raw_table: false,
            texts: true,
        };
        let (bill, lower) = (bill(&load, &prices), advice(&load, &prices));
        let shown = render(&Page {
            schema: 1,
            region: &prices.region,
            prices_as_of: &prices.as_of,
            prices_unverified: &prices.unverified,
            load: &load,
            least_shards: least_shards(load.events_per_second),
            bill: &bill,
            lower: &lower,
        });
        assert!(shown.contains("2 shards cannot carry this load; it needs 5") && shown.contains("SNS"), "{shown}");
        assert!(shown.contains("nobody has verified: redshift.node_hour, sms.carrier_fee"), "{shown}");
    }
}
