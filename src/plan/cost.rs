//! What an application costs a month at Fly.io, by its published prices. An estimate: every machine runs all
//! the time, and traffic, snapshots, certificates and the root file systems of stopped machines are left out. Pure.
//!
//! The prices, with their source and date, are in `prices.json`.

use std::{collections::BTreeMap, sync::OnceLock};

use serde::Deserialize;

/// Something that Fly.io bills.
#[derive(Clone, Debug, PartialEq)]
pub enum Billed {
    /// Machines that run, all of one size in one region.
    Machine {
        /// Name, for people.
        name: String,
        /// `shared` or `performance`.
        cpu_kind: String,
        /// Number of CPUs.
        cpus: u32,
        /// Memory, in MB.
        memory_mb: u32,
        /// Whether it has a GPU, whose price is not in the table.
        gpu: bool,
        /// Region.
        region: String,
    },
    /// A volume of this size in GB.
    Volume(u32),
    /// A dedicated IPv4 address.
    DedicatedIpv4,
    /// A cluster of Managed Postgres.
    ManagedPostgres {
        /// Its plan.
        plan: String,
        /// Its storage, in GB.
        gb: u32,
    },
    /// Something whose price is not in the table.
    Other(String),
}

/// An estimate for a month.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// In US dollars: what is priced.
    pub dollars: f64,
    /// What is not, by name.
    pub unknown: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Prices {
    source: String,
    date: String,
    currency: String,
    seconds_per_month: f64,
    machine: MachinePrices,
    regions: BTreeMap<String, f64>,
    volume_gb: f64,
    dedicated_ipv4: f64,
    managed_postgres: PostgresPrices,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MachinePrices {
    cpu_second: BTreeMap<String, f64>,
    included_mb_per_cpu: BTreeMap<String, u32>,
    gb_second: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostgresPrices {
    plans: BTreeMap<String, f64>,
    gb: f64,
}

/// The table. `None` only if the file in the repository is not valid, which a test excludes.
fn prices() -> Option<&'static Prices> {
    static PRICES: OnceLock<Option<Prices>> = OnceLock::new();
    PRICES
        .get_or_init(|| serde_json::from_str(include_str!("prices.json")).ok())
        .as_ref()
}

/// Where the prices are from, of which day, and in which currency.
pub fn source() -> (&'static str, &'static str, &'static str) {
    prices().map_or(("", "", ""), |prices| {
        (&prices.source, &prices.date, &prices.currency)
    })
}

impl Billed {
    /// Its price a month in US dollars; `None`: it is not in the table.
    pub fn price(&self) -> Option<f64> {
        let prices = prices()?;
        match self {
            Self::Machine {
                cpu_kind,
                cpus,
                memory_mb,
                gpu: false,
                region,
                ..
            } => {
                let machine = &prices.machine;
                let cpu = machine.cpu_second.get(cpu_kind)?;
                let included = machine.included_mb_per_cpu.get(cpu_kind)?;
                let more = memory_mb.saturating_sub(included.saturating_mul(*cpus));
                let second = f64::from(*cpus) * cpu + f64::from(more) / 1024.0 * machine.gb_second;
                Some(second * prices.seconds_per_month * prices.regions.get(region)?)
            }
            Self::Volume(gb) => Some(f64::from(*gb) * prices.volume_gb),
            Self::DedicatedIpv4 => Some(prices.dedicated_ipv4),
            Self::ManagedPostgres { plan, gb } => {
                let postgres = &prices.managed_postgres;
                Some(postgres.plans.get(plan)? + f64::from(*gb) * postgres.gb)
            }
            Self::Machine { .. } | Self::Other(_) => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Machine { name, .. } | Self::Other(name) => name.clone(),
            Self::Volume(_) => "volumes".to_owned(),
            Self::DedicatedIpv4 => "the dedicated IPv4 address".to_owned(),
            Self::ManagedPostgres { plan, .. } => format!("managed Postgres {plan}"),
        }
    }
}

impl Estimate {
    /// The estimate of all of these.
    pub fn of(billed: impl IntoIterator<Item = Billed>) -> Self {
        let mut estimate = Self::default();
        for item in billed {
            match item.price() {
                Some(price) => estimate.dollars += price,
                None => {
                    let name = item.name();
                    if !estimate.unknown.contains(&name) {
                        estimate.unknown.push(name);
                    }
                }
            }
        }
        estimate
    }

    /// The amount with two decimals; `unknown` if nothing of it is priced.
    pub fn amount(&self) -> String {
        if self.dollars == 0.0 && !self.unknown.is_empty() {
            return "unknown".to_owned();
        }
        format!("{:.2}", self.dollars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpu_kind: &str, cpus: u32, memory_mb: u32, region: &str) -> Billed {
        Billed::Machine {
            name: "golive-app-0".to_owned(),
            cpu_kind: cpu_kind.to_owned(),
            cpus,
            memory_mb,
            gpu: false,
            region: region.to_owned(),
        }
    }

    #[test]
    fn the_published_prices_of_machines_come_out_to_the_cent() {
        // The table and the examples of https://fly.io/docs/about/pricing/.
        for (cpu_kind, cpus, memory_mb, region, price) in [
            ("shared", 1, 256, "iad", "2.19"),
            ("shared", 1, 512, "iad", "3.69"),
            ("shared", 1, 1024, "iad", "6.70"),
            ("shared", 2, 2048, "iad", "13.39"),
            ("performance", 1, 2048, "iad", "33.00"),
            ("performance", 2, 4096, "iad", "66.00"),
            ("shared", 1, 1024, "fra", "7.73"),
            ("shared", 1, 1024, "sin", "8.50"),
        ] {
            let estimate = Estimate::of([machine(cpu_kind, cpus, memory_mb, region)]);
            assert_eq!(
                estimate.amount(),
                price,
                "{cpu_kind} {cpus} {memory_mb} {region}"
            );
        }
    }

    #[test]
    fn a_database_a_volume_and_an_address_are_added_up() {
        let estimate = Estimate::of([
            machine("shared", 1, 512, "iad"),
            Billed::Volume(10),
            Billed::DedicatedIpv4,
            Billed::ManagedPostgres {
                plan: "basic".to_owned(),
                gb: 10,
            },
        ]);
        assert_eq!(estimate.amount(), "47.99");
        assert!(estimate.unknown.is_empty());
    }

    #[test]
    fn what_has_no_price_is_named_and_never_counts_as_free() {
        let redis = || Billed::Other("Redis".to_owned());
        let estimate = Estimate::of([redis(), machine("shared", 1, 256, "nowhere")]);
        assert_eq!(estimate.amount(), "unknown");
        assert_eq!(estimate.unknown, ["Redis", "golive-app-0"]);
        let estimate = Estimate::of([redis(), Billed::Volume(1)]);
        assert_eq!(
            (estimate.amount().as_str(), estimate.unknown.len()),
            ("0.15", 1)
        );
        assert_eq!(Estimate::default().amount(), "0.00");
    }

    #[test]
    fn the_table_names_its_source_and_its_day() {
        let (source, date, currency) = source();
        assert!(source.contains("https://fly.io/docs/about/pricing/"));
        assert!(date.parse::<jiff::civil::Date>().is_ok(), "{date}");
        assert_eq!(currency, "USD");
    }
}
