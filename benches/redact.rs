//! What redaction costs: learning the values of an object, and redacting the texts of a pass. Prints a
//! table. `cargo bench --bench redact`.
//!
//! A pass of a live object takes some milliseconds of processor time and writes about fifty texts, most
//! of them below 200 bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use golive::redact::Redactor;

/// Each measurement repeats what it measures for so long.
const TIME: Duration = Duration::from_millis(500);

fn main() {
    for secrets in [0, 20, 500] {
        let (redactor, texts) = (knows(&values(secrets)), texts());
        let pass = || {
            texts
                .iter()
                .for_each(|text| drop(black_box(redactor.redact(text))))
        };
        measure(&format!("50 texts of a pass, {secrets} secrets"), pass);
    }
    for secrets in [20, 500] {
        let values = values(secrets);
        measure(&format!("learn {secrets} secrets"), || {
            black_box(knows(black_box(&values)));
        });
        let redactor = knows(&values);
        measure(&format!("learn {secrets} known secrets again"), || {
            values
                .iter()
                .for_each(|value| redactor.learn(black_box(value.as_bytes())));
        });
    }
    let redactor = knows(&values(20));
    let escaped = r#"GET /search?q=a%2Db+c%20d {"said": "caf\u00e9\n"} "#.repeat(120);
    measure("7 KiB of text with escapes, 20 secrets", || {
        black_box(redactor.redact(black_box(&escaped)));
    });
    let begin = "observed-the-step-9fK2x7-";
    let value = |n: usize| format!("{begin}{}{n}", "machine started ".repeat(4_096));
    let redactor = knows(&(0..16).map(value).collect::<Vec<_>>());
    let text = format!("{begin}machine started mach… ").repeat(160);
    measure("8 KiB of beginnings of 16 values of 64 KiB", || {
        black_box(redactor.redact(black_box(&text)));
    });
}

/// Prints the mean time.
fn measure(what: &str, mut act: impl FnMut()) {
    let start = Instant::now();
    let mut times = 0_u32;
    while start.elapsed() < TIME {
        act();
        times += 1;
    }
    println!(
        "{what:<45} {:>10.1} µs",
        (start.elapsed() / times).as_secs_f64() * 1e6
    );
}

/// The values of an application with this many secrets.
fn values(count: usize) -> Vec<String> {
    let value = |n: usize| format!("{n:04}-x7Kp2mQz-ea863b245a47f4a0deed25c7faece570");
    (0..count).map(value).collect()
}

/// The texts of a pass.
fn texts() -> Vec<String> {
    let text = |n: usize| {
        format!(
            "machine e286{n:04}c43 in eze is started and its check servicecheck-00-http-8080 passes \
             since 12 s: HTTP GET http://172.19.0.2:8080/healthz: 200 OK Output: ok"
        )
    };
    (0..50).map(text).collect()
}

fn knows(values: &[String]) -> Redactor {
    let redactor = Redactor::default();
    for value in values {
        redactor.learn(value.as_bytes());
    }
    redactor
}
