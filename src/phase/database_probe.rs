//! Commands that show, when run in a machine of the app, whether the database answers.
//!
//! The smoke test of the database and the diagnosis of a failed machine share them.

use crate::{api::smoke_test::Check, flytoml, plan::Target};

/// A command that succeeds when the database answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its name in the report.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// What is known about it.
    pub guess: Guess,
}

/// What is known about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// The spec declares it.
    Declared,
    /// A subcommand that the application's own program may know.
    OwnProgram,
    /// A tool of PostgreSQL: when the image has it, its exit code says whether the database answers.
    Tool,
}

impl Command {
    /// The same program with a subcommand that it cannot know; `None` for another kind of command.
    pub fn unknown_subcommand(&self) -> Option<Self> {
        let program = self.argv.first()?;
        let own = self.guess == Guess::OwnProgram;
        own.then(|| Self {
            argv: vec![program.clone(), "golive-no-such-command".to_owned()],
            ..self.clone()
        })
    }
}

/// The command that a check declares, if it does.
pub fn declared(check: &Check) -> Option<Command> {
    let argv = check.database.as_ref()?.command.clone();
    let program = argv.first()?;
    Some(Command {
        // Without the arguments, which may hold what nobody else should read.
        name: format!("exec {program}"),
        argv,
        guess: Guess::Declared,
    })
}

/// The default commands: the application's own, then the tools of PostgreSQL.
///
/// The application's own is `<program> db-check`. The program is that of the fly.toml's release
/// command, if the release command is a program with a subcommand, such as `cabanas migrate`.
pub fn default_commands(target: &Target) -> Vec<Command> {
    let mut commands = Vec::new();
    let release = target
        .config_or_invalid()
        .ok()
        .and_then(|config| config.app.deploy.release_command.clone());
    if let Some(program) = release.as_deref().and_then(own_program) {
        commands.push(Command {
            name: format!("exec {program} db-check"),
            argv: vec![program, "db-check".to_owned()],
            guess: Guess::OwnProgram,
        });
    }
    for (name, line) in [
        (
            "exec psql",
            r#"export PGCONNECT_TIMEOUT=5; exec psql "$DATABASE_URL" -XAtqc 'select 1'"#,
        ),
        (
            "exec pg_isready",
            r#"exec pg_isready -q -t 5 -d "$DATABASE_URL""#,
        ),
    ] {
        commands.push(Command {
            name: name.to_owned(),
            // The output is discarded: an error of psql may quote the URL.
            argv: ["sh", "-c", &format!("{line} >/dev/null 2>&1")]
                .map(str::to_owned)
                .to_vec(),
            guess: Guess::Tool,
        });
    }
    commands
}

/// Programs that run other programs: their first argument is a file, a script or a package.
const RUNNERS: [&str; 22] = [
    "sh", "bash", "ash", "dash", "env", "node", "npm", "npx", "pnpm", "yarn", "bun", "deno",
    "python", "python3", "poetry", "uv", "ruby", "bundle", "php", "java", "mix", "make",
];

/// The program of a command line such as `cabanas migrate`.
fn own_program(line: &str) -> Option<String> {
    let words = flytoml::split(line).ok()?;
    let (program, rest) = words.split_first()?;
    let name = program.rsplit('/').next().unwrap_or(program);
    let is_subcommand = rest
        .first()
        .is_some_and(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    let plain = program
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    (is_subcommand && plain && !RUNNERS.contains(&name)).then(|| program.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn names(spec: &str) -> Vec<String> {
        let commands = default_commands(&target(spec, &[]));
        commands.into_iter().map(|command| command.name).collect()
    }

    #[test]
    fn the_program_of_the_release_command_comes_first() {
        let with = |line: &str| {
            format!("deploy: {{config: {{inline: \"[deploy]\\nrelease_command = '{line}'\\n\"}}}}")
        };
        let tools = ["exec psql", "exec pg_isready"];
        assert_eq!(names(""), tools);
        assert_eq!(names(&with("cabanas migrate"))[0], "exec cabanas db-check");
        assert_eq!(
            names(&with("/app/bin/shop migrate up"))[0],
            "exec /app/bin/shop db-check"
        );
        for other in [
            "npm run migrate",
            "python manage.py migrate",
            "sh -c migrate",
            "./migrate.sh",
            "bundle exec rake db:migrate",
        ] {
            assert_eq!(names(&with(other)), tools);
        }
    }
}
