//! Addresses as people write them, and what is said of each.

#![allow(clippy::panic)]

use super::{Service::*, *};

/// What makes the address unusable.
fn problem(service: Service, text: &str) -> String {
    match judge(service, text) {
        Err(problem) => {
            assert!(problem.what.len() <= 200, "{}", problem.what);
            assert!(!problem.action.is_empty());
            let said = format!("{}: {}", problem.what, problem.action);
            assert!(!said.contains("hunter22"), "{said}");
            said
        }
        Ok(doubts) => panic!("accepted: {text} {doubts:?}"),
    }
}

/// The doubts about an address that can be used.
fn doubts(service: Service, text: &str) -> Vec<String> {
    match judge(service, text) {
        Ok(doubts) => doubts.into_iter().map(|doubt| doubt.what).collect(),
        Err(problem) => panic!("{text}: {problem:?}"),
    }
}

#[test]
fn addresses_that_drivers_read_are_accepted() {
    for (service, text) in [
        (
            Postgres,
            "postgres://user:hunter22@db.example:5432/shop?sslmode=require",
        ),
        (Postgres, "postgresql://user:p%40ss%2Fword@db.example/shop"),
        (Postgres, "postgres://db.example"),
        (Postgres, "postgres://user@db.example:/shop"),
        (
            Postgres,
            "postgresql://u:p@a.example:5432,b.example:5433/shop?target_session_attrs=any",
        ),
        (Postgres, "postgres://u:p@[fdaa:0:18:a7b::2]:5432/shop"),
        (
            Postgres,
            "postgres://shop:pw@shop-db.flycast:5432/shop?sslmode=disable",
        ),
        (
            Postgres,
            "postgres://shop:pw@top1.nearest.of.shop-db.internal:5432/shop",
        ),
        (Postgres, "postgres://u:p!$&'()*+,;=~._-@db.example/x"),
        (Postgres, "postgres://u:p:q@db.example/x"),
        (Postgres, "postgres://u@db.example/x?user=me@tenant"),
        (Postgres, "postgresql:///shop?host=/var/run/postgresql"),
        (Redis, "redis://default:hunter22@cache.example:6379/0"),
        (Redis, "rediss://:hunter22@cache.example:6380"),
        (Redis, "redis://cache.flycast:6379"),
        (Https, "https://hooks.slack.example/services/T0/B0/x#y"),
    ] {
        assert_eq!(doubts(service, text), [] as [String; 0], "{text}");
    }
}

#[test]
fn what_was_copied_along_is_named() {
    for (service, text, says) in [
        (
            Postgres,
            "psql 'postgresql://u:hunter22@db.example/neondb?sslmode=require'",
            "command",
        ),
        (
            Postgres,
            "psql postgresql://u:hunter22@db.example/neondb",
            "command",
        ),
        (
            Redis,
            "redis-cli -u redis://default:hunter22@cache.example:6379",
            "command",
        ),
        (
            Redis,
            "redis-cli --tls -u redis://default:hunter22@cache.example:6379",
            "command",
        ),
        (
            Postgres,
            "DATABASE_URL=postgres://u:hunter22@db.example/x",
            "`NAME=`",
        ),
        (
            Postgres,
            "export DATABASE_URL='postgres://u:hunter22@db.example/x'",
            "`NAME=`",
        ),
        (
            Postgres,
            "DATABASE_URL: postgres://u:hunter22@db.example/x",
            "`NAME=`",
        ),
        (Redis, "REDIS_URL=cache.example:6379", "`NAME=`"),
        (Postgres, "\"postgres://u:hunter22@db.example/x\"", "quotes"),
        (Postgres, "'postgres://u:hunter22@db.example/x'", "quotes"),
        (Postgres, "“postgres://u:hunter22@db.example/x”", "quotes"),
        (Postgres, "<postgres://u:hunter22@db.example/x>", "quotes"),
        (Postgres, " postgres://u:hunter22@db.example/x", "blank"),
        (Postgres, "postgres://u:hunter22@db.example/x ", "blank"),
        (Postgres, "postgres://u:hunter22@db.example/x\t", "blank"),
        (
            Postgres,
            "# the database\npostgres://u:hunter22@db.example/x",
            "more than one line",
        ),
        (
            Postgres,
            "\u{feff}postgres://u:hunter22@db.example/x",
            "invisible",
        ),
        (
            Postgres,
            "{\"url\": \"postgres://u:hunter22@db.example/x\"}",
            "JSON",
        ),
        (
            Postgres,
            "cG9zdGdyZXM6Ly91OnBAZGIuZXhhbXBsZS94",
            "encoded twice",
        ),
        (Postgres, "   ", "blank"),
    ] {
        let said = problem(service, text);
        assert!(said.contains(says), "{text}: {said}");
    }
}

#[test]
fn the_address_of_something_else_says_where_it_belongs() {
    for (service, text, says) in [
        (Postgres, "host=db user=x", "keys and values"),
        (
            Postgres,
            "host=db.example port=5432 dbname=x user=y password=hunter22",
            "keys and values",
        ),
        (Postgres, "mysql://u:hunter22@db.example/x", "MySQL"),
        (Postgres, "mariadb://u:hunter22@db.example/x", "MySQL"),
        (Postgres, "mongodb+srv://u:hunter22@db.example/x", "MongoDB"),
        (Postgres, "file:/data/sqlite.db", "file"),
        (Postgres, "file:///data/sqlite.db", "file"),
        (Postgres, "sqlite:data.db", "file"),
        (Postgres, "https://db.example", "web"),
        (Postgres, "redis://cache.example:6379", "`provision.redis`"),
        (Postgres, "u:hunter22@db.example/x", "no scheme"),
        (Postgres, "db.example", "no scheme"),
        (Redis, "https://x.upstash.example", "rediss://"),
        (Redis, "h:6379", "no scheme"),
        (
            Redis,
            "cache.example:6380,password=hunter22,ssl=True",
            "no scheme",
        ),
        (
            Redis,
            "postgres://u:hunter22@db.example/x",
            "`provision.postgres`",
        ),
        (Redis, "memcached://cache.example", "scheme"),
        (Https, "http://hooks.example/x", "https://"),
        (Https, "hooks.example/x", "no scheme"),
    ] {
        let said = problem(service, text);
        assert!(said.contains(says), "{text}: {said}");
    }
}

#[test]
fn characters_that_must_be_percent_encoded_are_named_with_their_code() {
    for (text, says) in [
        ("postgres://u:hunter22/pass@h.example:5432/db", "`%2F`"),
        ("postgres://u:12/34@h.example:5432/db", "`%2F`"),
        ("postgres://u:hunter22?x@h.example:5432/db", "`%3F`"),
        ("postgres://u:#@123@h.example:5432/db", "`%23`"),
        ("postgres://u:hunter22#1@h.example:5432/db", "`%23`"),
        ("postgres://u:hunter22@1@h.example:5432/db", "`%40`"),
        ("postgres://me@corp:hunter22@h.example/db", "`%40`"),
        ("postgres://u:100%sure@h.example/db", "`%25`"),
        ("postgres://u:hunter22%@h.example/db", "`%25`"),
        ("postgres://u:hunter22%zz@h.example/db", "`%25`"),
        ("postgres://u:hunter 22@h.example/db", "`%20`"),
        ("postgres://u:contraseña@h.example/db", "outside ASCII"),
        ("postgres://u:hunter22^@h.example/db", "percent-encoded"),
        ("postgres://u:a\\b@h.example/db", "percent-encoded"),
        ("postgres://u:hunter22[@h.example/db", "`[`"),
        ("postgres://u:hunter22%00@h.example/db", "NUL"),
        ("postgres://u:[YOUR-PASSWORD]@h.example/db", "placeholder"),
        ("postgres://u:${DB_PASSWORD}@h.example/db", "placeholder"),
        ("postgres://USER:<password>@h.example/db", "placeholder"),
        ("postgres://u:hunter22@/db", "no host"),
        ("postgres://", "no host"),
        ("postgres://u:hunter22@h.example:port/db", "port"),
        ("postgres://u:hunter22@h.example:99999/db", "port"),
        ("postgres://u:hunter22@fdaa:0:18::2:5432/db", "IPv6"),
        ("postgres://u:hunter22@h_example!/db", "no hostname has"),
    ] {
        let said = problem(Postgres, text);
        assert!(said.contains(says), "{text}: {said}");
    }
}

#[test]
fn a_host_that_machines_do_not_reach_is_doubtful() {
    for (service, text, says) in [
        (
            Postgres,
            "postgres://u:hunter22@localhost:5432/x",
            "localhost",
        ),
        (Postgres, "postgres://u:hunter22@127.0.0.1/x", "localhost"),
        (Postgres, "postgres://u:hunter22@[::1]:5432/x", "localhost"),
        (Postgres, "postgres://u:hunter22@0.0.0.0/x", "localhost"),
        (
            Postgres,
            "postgres://u:hunter22@%2Fvar%2Frun/x",
            "localhost",
        ),
        (
            Postgres,
            "postgres://u:hunter22@db:5432/x",
            "without a domain",
        ),
        (Redis, "redis://redis:6379", "without a domain"),
        // libpq takes the host of the parameters.
        (
            Postgres,
            "postgres://u:hunter22@/x?host=localhost",
            "localhost",
        ),
        (
            Postgres,
            "postgres://u:hunter22@db.example/x?a=b&hostaddr=10.1.2.3",
            "private IPv4",
        ),
        (
            Postgres,
            "postgres://u:hunter22@/x?host=db",
            "without a domain",
        ),
        // getaddrinfo reads it as 127.0.0.1.
        (Postgres, "postgres://u:hunter22@127.1/x", "of digits"),
        (Redis, "redis://10.0.3:6379", "of digits"),
        (
            Postgres,
            "postgres://u:hunter22@[::ffff:127.0.0.1]/x",
            "localhost",
        ),
        (
            Postgres,
            "postgres://u:hunter22@[::ffff:10.0.0.3]/x",
            "private IPv4",
        ),
        (
            Postgres,
            "postgres://u:hunter22@[fd12::7]/x",
            "private IPv6",
        ),
        (
            Postgres,
            "postgres://u:hunter22@[fe80::7]/x",
            "private IPv6",
        ),
        (Redis, "redis://cache.home.arpa", "another private network"),
        (Postgres, "postgres://u:hunter22@10.0.0.3/x", "private IPv4"),
        (
            Postgres,
            "postgres://u:hunter22@192.168.1.2/x",
            "private IPv4",
        ),
        (
            Postgres,
            "postgres://u:hunter22@pg.shop.svc.cluster.local/x",
            "private network",
        ),
        (
            Postgres,
            "postgres://u:hunter22@host.docker.internal/x",
            "private network",
        ),
        (
            Postgres,
            "jdbc:postgresql://db.example/x",
            "only some drivers",
        ),
        (
            Postgres,
            "postgresql+asyncpg://u:hunter22@db.example/x",
            "only some drivers",
        ),
        (Postgres, "POSTGRES://u:hunter22@db.example/x", "capital"),
        (Https, "https://localhost/x", "localhost"),
    ] {
        let told = doubts(service, text).join("; ");
        assert!(told.contains(says), "{text}: {told}");
        assert!(!told.contains("hunter22"), "{told}");
    }
}
