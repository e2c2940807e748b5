//! The token may do what this activation needs.

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    fly::{
        token::{Facts, Scope},
        tokens::CurrentToken,
    },
    phase::app_lookup::{AppLookup, look_up},
    pipeline::{Cx, step::Result},
    plan::{Database, Redis, Target},
};

/// The token may do what this activation needs.
pub struct TokenScope;

/// What is known of the token's scope.
#[derive(Debug)]
pub struct KnownScope {
    facts: Facts,
    current: Vec<CurrentToken>,
    organization: Option<u64>,
    app: Option<u64>,
}

const ORG_TOKEN: &str = "use a token made with `fly tokens create org` for this organization";

impl Check for TokenScope {
    type Observed = KnownScope;
    const NAME: CheckName = CheckName::TokenScope;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> Result<KnownScope> {
        let slug = &cx.target.organization;
        let facts = cx.target.token.facts().clone();
        let current = async {
            cx.fly
                .current_tokens()
                .await
                .map_err(|source| Error::fly("read what the token may do", source))
        };
        let organization = async {
            match cx.fly.organization(slug).await {
                Ok(found) => Ok(found.and_then(|found| found.numeric_id())),
                // OrganizationUsable reports it.
                Err(error) if error.is_forbidden() => Ok(None),
                Err(source) => Err(Error::fly("read the organization", source)),
            }
        };
        let app = async {
            // Only a token for single apps needs the app's number.
            if !matches!(facts.scope, Scope::Apps { .. }) {
                return Ok(None);
            }
            match look_up(cx, &cx.target.app).await? {
                AppLookup::Found(app) => Ok(app.internal_numeric_id),
                AppLookup::NotFound | AppLookup::Forbidden => Ok(None),
            }
        };
        let (current, organization, app) = futures::try_join!(current, organization, app)?;
        Ok(KnownScope {
            facts,
            current,
            organization,
            app,
        })
    }

    fn judge(&self, target: &Target, known: &KnownScope) -> Finding {
        let lacks = |what: String| Finding::failed(Reason::TokenScopeMissing, what, ORG_TOKEN);
        if known.facts.read_only == Some(true) {
            return lacks("the token may only read".to_owned());
        }
        match &known.facts.scope {
            Scope::Machines(_) => {
                return lacks("the token is for single machines".to_owned());
            }
            Scope::Organization(id) if known.organization.is_some_and(|org| org != *id) => {
                return lacks(format!(
                    "the token is for another organization than {}",
                    target.organization
                ));
            }
            Scope::Apps { apps, .. } => {
                if let Some(finding) =
                    for_apps(target, known.app.is_some_and(|id| apps.contains(&id)))
                {
                    return finding;
                }
            }
            Scope::Organization(_) | Scope::Unknown => {}
        }
        let current = &known.current;
        let elsewhere = |token: &CurrentToken| {
            token
                .org_slug
                .as_deref()
                .is_some_and(|slug| !slug.is_empty() && slug != target.organization)
        };
        if !current.is_empty() && current.iter().all(elsewhere) {
            let slug = current[0].org_slug.as_deref().unwrap_or_default();
            return lacks(format!(
                "the token is for the organization {slug}, not for {}",
                target.organization
            ));
        }
        let bound = |token: &CurrentToken| {
            token
                .restricted_to_machine
                .as_deref()
                .is_some_and(|machine| !machine.is_empty())
        };
        if !current.is_empty() && current.iter().all(bound) {
            return lacks("the token may be used from one machine only".to_owned());
        }
        if !current.is_empty() && current.iter().all(|token| !token.apps.is_empty()) {
            let ours = current.iter().any(|token| token.apps.contains(&target.app));
            if let Some(finding) = for_apps(target, ours && known.facts.scope != Scope::Unknown) {
                return finding;
            }
        }
        Finding::passed(match known.facts.scope {
            Scope::Unknown => "the token does not say what it may do; Fly.io accepts it",
            Scope::Apps { .. } => "the token is for this app",
            _ => "the token is for this organization",
        })
    }
}

/// A token for single apps can run one of them, and create neither apps nor databases.
fn for_apps(target: &Target, ours: bool) -> Option<Finding> {
    let failed = |what: String| Some(Finding::failed(Reason::TokenScopeMissing, what, ORG_TOKEN));
    if !ours {
        return failed(format!(
            "the token is for single apps, and {} is none of them or does not exist yet",
            target.app
        ));
    }
    let database = matches!(
        target.database(),
        Some(Database::Managed(_) | Database::FlyPostgres(_))
    );
    if database || matches!(target.redis(), Some(Redis::Upstash(_))) {
        return failed(format!(
            "the token is for the app {} only, and cannot create its database",
            target.app
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn token(org: &str, apps: &[&str]) -> CurrentToken {
        CurrentToken {
            org_slug: Some(org.to_owned()),
            apps: apps.iter().map(|app| (*app).to_owned()).collect(),
            ..CurrentToken::default()
        }
    }

    fn judge(spec: &str, scope: Scope, current: CurrentToken, app: Option<u64>) -> Finding {
        let facts = Facts {
            scope,
            ..Facts::default()
        };
        let known = KnownScope {
            facts,
            current: vec![current],
            organization: Some(7),
            app,
        };
        TokenScope.judge(&target(spec, &[]), &known)
    }

    fn passes(finding: &Finding) -> bool {
        matches!(finding, Finding::Passed(_))
    }

    #[test]
    fn a_token_of_the_organization_passes_and_one_of_another_does_not() {
        assert!(passes(&judge(
            "",
            Scope::Organization(7),
            token("cabanas", &[]),
            None
        )));
        assert!(passes(&judge(
            "",
            Scope::Unknown,
            token("cabanas", &[]),
            None
        )));
        assert!(!passes(&judge(
            "",
            Scope::Organization(8),
            token("cabanas", &[]),
            None
        )));
        assert!(!passes(&judge(
            "",
            Scope::Unknown,
            token("others", &[]),
            None
        )));
    }

    #[test]
    fn a_token_of_the_app_runs_it_but_makes_neither_it_nor_a_database() {
        let scope = || Scope::Apps {
            organization: Some(7),
            apps: vec![42],
        };
        let current = || token("cabanas", &["shop"]);
        assert!(passes(&judge("", scope(), current(), Some(42))));
        assert!(
            !passes(&judge("", scope(), current(), None)),
            "no such app yet"
        );
        assert!(
            !passes(&judge("", scope(), current(), Some(43))),
            "another app"
        );
        let database = "provision: {postgres: {managed: {}}}";
        assert!(!passes(&judge(database, scope(), current(), Some(42))));
    }

    #[test]
    fn a_token_that_only_reads_fails() {
        let facts = Facts {
            scope: Scope::Organization(7),
            read_only: Some(true),
            ..Facts::default()
        };
        let known = KnownScope {
            facts,
            current: vec![token("cabanas", &[])],
            organization: Some(7),
            app: None,
        };
        assert!(!passes(&TokenScope.judge(&target("", &[]), &known)));
    }
}
