//! The machines, volumes and addresses that a client asked of the simulator for one app, as they
//! are kept in `NAME.flyctl.json`.

use std::collections::BTreeMap;

use fly_sim::record::Exchange;
use serde_json::{Value, json};

/// Creates a machine.
pub const CREATE: &str = "POST /v1/apps/{app}/machines";
/// Updates a machine.
pub const UPDATE: &str = "POST /v1/apps/{app}/machines/{id}";
const VOLUME: &str = "POST /v1/apps/{app}/volumes";
const ADDRESS: &str = "POST /v1/apps/{app}/ip_assignments";

/// The machines of one deployment, in a fixed order. Ids become words: `names` has them.
pub fn machines(exchanges: &[Exchange], names: &mut BTreeMap<String, String>) -> Value {
    let mut machines = Vec::new();
    for exchange in exchanges {
        if exchange.endpoint != CREATE && exchange.endpoint != UPDATE {
            continue;
        }
        let config = &exchange.body["config"];
        let group = config["metadata"]["fly_process_group"]
            .as_str()
            .unwrap_or_default();
        if let Some(id) = exchange.answer["id"].as_str() {
            names
                .entry(id.to_owned())
                .or_insert_with(|| format!("<id of the machine of {group}>"));
        }
        for mount in config["mounts"].as_array().into_iter().flatten() {
            if let Some(id) = mount["volume"].as_str() {
                names.insert(id.to_owned(), "<id of the volume>".to_owned());
            }
        }
        if let Some(version) = config["metadata"]["fly_flyctl_version"].as_str() {
            names.insert(version.to_owned(), "<version of flyctl>".to_owned());
        }
        if let Some(id) = config["metadata"]["fly_release_id"].as_str() {
            names.insert(id.to_owned(), "<id of the release>".to_owned());
        }
        let mut text = json!({
            "process_group": group,
            "region": exchange.body["region"],
            "skip_launch": exchange.body["skip_launch"].as_bool().unwrap_or(false),
            "config": config,
        })
        .to_string();
        for (id, word) in names.iter() {
            text = text.replace(id, word);
        }
        machines.push(text);
    }
    // Groups are deployed side by side; equal machines are told once, with their number.
    let mut counted: BTreeMap<String, u32> = BTreeMap::new();
    for text in machines {
        *counted.entry(text).or_default() += 1;
    }
    let mut all: Vec<Value> = counted
        .into_iter()
        .map(|(text, count)| {
            let mut machine: Value = serde_json::from_str(&text).unwrap();
            machine["count"] = json!(count);
            machine
        })
        .collect();
    all.sort_by_key(|machine| {
        let group = machine["process_group"].as_str().map(str::to_owned);
        (group, machine["skip_launch"].as_bool())
    });
    json!(all)
}

/// The volumes that were created, in the order in which they were.
pub fn volumes(exchanges: &[Exchange]) -> Value {
    bodies(exchanges, VOLUME)
}

/// The addresses that were assigned, in the order in which they were.
pub fn addresses(exchanges: &[Exchange]) -> Value {
    bodies(exchanges, ADDRESS)
}

fn bodies(exchanges: &[Exchange], endpoint: &str) -> Value {
    let all = exchanges
        .iter()
        .filter(|exchange| exchange.endpoint == endpoint);
    all.map(|exchange| exchange.body.clone()).collect()
}
