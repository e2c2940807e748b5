//! Sets conditions. `Reconciling` and `Stalled` are present only when True, and never both.

use jiff::Timestamp;

use crate::api::{
    ActivationStatus, Reason,
    condition::{self, ConditionStatus, ConditionType, Observation},
};

/// Sets conditions of one status.
pub struct Setter<'a> {
    /// The status.
    pub status: &'a mut ActivationStatus,
    /// `observedGeneration` of every condition that is set.
    pub generation: Option<i64>,
    /// The time of a transition.
    pub now: Timestamp,
}

impl Setter<'_> {
    /// Sets one condition.
    pub fn set(
        &mut self,
        type_: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: &str,
    ) {
        condition::set(
            &mut self.status.conditions,
            Observation::new(type_, status, reason, message),
            self.generation,
            self.now,
        );
    }

    /// Removes one condition.
    pub fn unset(&mut self, type_: ConditionType) {
        condition::remove(&mut self.status.conditions, type_);
    }

    /// Work is under way: `Reconciling` is True, and `Stalled` absent.
    pub fn reconciling(&mut self, reason: Reason, message: &str) {
        self.set(
            ConditionType::Reconciling,
            ConditionStatus::True,
            reason,
            message,
        );
        self.unset(ConditionType::Stalled);
    }

    /// Work has stopped: `Stalled` is True, and `Reconciling` absent.
    pub fn stalled(&mut self, reason: Reason, message: &str) {
        self.set(
            ConditionType::Stalled,
            ConditionStatus::True,
            reason,
            message,
        );
        self.unset(ConditionType::Reconciling);
    }

    /// No work is under way and none has stopped: both are absent.
    pub fn quiet(&mut self) {
        self.unset(ConditionType::Reconciling);
        self.unset(ConditionType::Stalled);
    }
}
