//! Mercado Pago: its API with test users and a sandbox, and the sender of its notifications.

pub mod api;
pub mod sender;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What became of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `approved`, `rejected` or `in_process`.
    pub status: String,
    /// Why, such as `accredited`.
    pub status_detail: String,
}

/// The outcome that the name of the card's holder makes in the sandbox.
///
/// Source: mercadopago/devsite-docs, snippets/test-integration.
pub fn sandbox_outcome(holder: &str) -> Option<Outcome> {
    let (status, detail) = match holder {
        "APRO" => ("approved", "accredited"),
        "OTHE" => ("rejected", "cc_rejected_other_reason"),
        "CONT" => ("in_process", "pending_contingency"),
        "CALL" => ("rejected", "cc_rejected_call_for_authorize"),
        "FUND" => ("rejected", "cc_rejected_insufficient_amount"),
        "SECU" => ("rejected", "cc_rejected_bad_filled_security_code"),
        "EXPI" => ("rejected", "cc_rejected_bad_filled_date"),
        "FORM" => ("rejected", "cc_rejected_bad_filled_other"),
        _ => return None,
    };
    Some(Outcome {
        status: status.to_owned(),
        status_detail: detail.to_owned(),
    })
}

/// A payment.
#[derive(Clone, Debug, Serialize)]
pub struct Payment {
    /// Its number.
    pub id: u64,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// In pesos.
    pub transaction_amount: f64,
    /// What the seller calls it.
    pub external_reference: String,
}

/// A user for trying.
#[derive(Clone, Debug, Serialize)]
pub struct TestUser {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub nickname: String,
    /// Its password.
    pub password: String,
    /// Always `active` here.
    pub site_status: String,
    /// Its address.
    pub email: String,
}

/// What Mercado Pago knows.
#[derive(Clone, Debug)]
pub struct MercadoPago {
    /// The seller.
    pub user_id: u64,
    /// Its access tokens: `APP_USR-…` of production, `TEST-…` of the sandbox.
    pub tokens: Vec<String>,
    /// The secret that signs notifications.
    pub secret: String,
    /// Payments, by number.
    pub payments: BTreeMap<u64, Payment>,
    /// Users for trying; at most ten.
    pub test_users: Vec<TestUser>,
    /// How many of the next calls fail with 500.
    pub failing: u32,
}

/// Most users for trying that a seller can have.
///
/// Source: mercadopago/devsite-docs, "Test accounts".
pub const MOST_TEST_USERS: usize = 10;

impl Default for MercadoPago {
    fn default() -> Self {
        Self {
            user_id: 1_384_020_566,
            tokens: vec![
                "APP_USR-5093-local-world-token-1384020566".to_owned(),
                "TEST-5093-local-world-token-1384020566".to_owned(),
            ],
            // The one of examples/sist-cabanas-inputs.yaml.
            secret: "e60ba6be61498d55e7c7806202617ca26650ad9a545659d1ed0af4af414428cb".to_owned(),
            payments: BTreeMap::new(),
            test_users: Vec::new(),
            failing: 0,
        }
    }
}

impl MercadoPago {
    /// Notes a payment and returns it.
    pub fn pay(&mut self, holder: &str, amount: f64, reference: &str) -> Option<Payment> {
        let payment = Payment {
            id: 1_320_000_000 + self.payments.len() as u64,
            outcome: sandbox_outcome(holder)?,
            transaction_amount: amount,
            external_reference: reference.to_owned(),
        };
        self.payments.insert(payment.id, payment.clone());
        Some(payment)
    }
}
