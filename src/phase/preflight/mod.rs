//! Preflight: the checks before anything is written to Fly.io. All run at the same time, and every
//! result is reported.
//!
//! A check is a file that implements `check::Check`. This folder may use `pipeline` and what lies
//! below it, and the files directly in `src/phase/`; it uses no other phase. Start with `check`,
//! then `organization_usable`, a short check.

mod address;
mod addresses_suffice;
mod app_name_available;
mod app_values;
mod approvers;
mod check;
mod database_plan_usable;
mod fly_config_valid;
mod gates_approvable;
mod health_check_declared;
mod hostnames_usable;
mod image_resolvable;
mod organization_usable;
mod region_usable;
mod room;
mod secrets_resolvable;
mod secrets_strong;
mod strategy_compatible;
mod token_expiry;
mod token_scope;
mod token_valid;
mod volumes_kept;

use check::Checked;

use crate::pipeline::AnyStep;

/// All checks, in the order in which they are reported.
pub static STEPS: &[&dyn AnyStep] = &[
    &Checked(token_valid::TokenValid),
    &Checked(token_scope::TokenScope),
    &Checked(token_expiry::TokenExpiry),
    &Checked(organization_usable::OrganizationUsable),
    &Checked(app_name_available::AppNameAvailable),
    &Checked(region_usable::RegionUsable),
    &Checked(image_resolvable::ImageResolvable),
    &Checked(fly_config_valid::FlyConfigValid),
    &Checked(strategy_compatible::StrategyCompatible),
    &Checked(volumes_kept::VolumesKept),
    &Checked(health_check_declared::HealthCheckDeclared),
    &Checked(addresses_suffice::AddressesSuffice),
    &Checked(secrets_resolvable::SecretsResolvable),
    &Checked(secrets_strong::SecretsStrong),
    &Checked(database_plan_usable::DatabasePlanUsable),
    &Checked(hostnames_usable::HostnamesUsable),
    &Checked(gates_approvable::GatesApprovable),
];

#[cfg(test)]
mod tests {
    use super::STEPS;
    use crate::api::preflight::CheckName;

    #[test]
    fn every_check_of_the_api_has_its_step() {
        let steps: Vec<&str> = STEPS.iter().map(|step| step.id().as_str()).collect();
        let names: Vec<&str> = CheckName::ALL.iter().map(|name| name.as_str()).collect();
        assert_eq!(steps, names);
    }
}
