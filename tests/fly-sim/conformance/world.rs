//! The world in which flyctl is recorded and in which the recording is replayed.

use std::path::Path;

use fly_sim::platform::PlatformOptions;
use fly_sim::{Image, Images, Options, OrgSeed};

/// `program` is the simulator, whose subcommand `echo` is what the machines run.
pub fn options(program: &Path) -> Options {
    let echo = |tag: &str, args: &[&str]| {
        let all = std::iter::once("echo").chain(args.iter().copied());
        Image::new(format!("registry.fly.io/demo:{tag}"), program).args(all.map(str::to_owned))
    };
    Options {
        images: Images::new([echo("1", &[]), echo("2", &[]), echo("3", &[])]),
        orgs: vec![OrgSeed::new("cabanas", "conformance-token")],
        record: true,
        agent: true,
        platform: PlatformOptions {
            certificates_auto: true,
            ..PlatformOptions::default()
        },
        ..Options::default()
    }
}
