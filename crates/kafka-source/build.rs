//! Keeps librdkafka from crashing on a hint that names no leader.
//!
//! A broker of Kafka 3.7 or newer that is asked for a partition that it does not lead names
//! the leader in its refusal (KIP-951). Where one partition of a topic has a leader and
//! another has none, as while a broker restarts, librdkafka 2.5 and newer reads memory that
//! it has not set, takes what lies there for a partition's number, and may write far outside
//! of its array (confluentinc/librdkafka#5280). Nothing in its configuration turns the hint
//! off.
//!
//! The hint only saves time: each such refusal makes librdkafka ask for the metadata anyway,
//! as it did before 2.5. So the function that takes hints is replaced by one that does
//! nothing (`librdkafka/leader_hint.c`). A function of a static library cannot be defined a
//! second time, and `--wrap` is an argument that cargo does not hand on to whoever depends on
//! this crate. A library to link with is handed on, and to the linkers of ELF a library may be
//! a text: a script, which may give a symbol another value. So every program that this crate
//! is part of has the repair, whatever it does itself.
//!
//! A linker that takes no scripts, such as mold, says so: `KAFKA_SOURCE_NO_LINKER_SCRIPT=1` in
//! the environment of the build leaves librdkafka as it is.
//!
//! Linux only, and where librdkafka is linked statically, as it is unless somebody turns
//! `dynamic-linking` of rdkafka on. Elsewhere nothing is changed, and the bug is there.

use std::path::PathBuf;
use std::{env, fs};

const SOURCE: &str = "librdkafka/leader_hint.c";
/// Found by `-l` whether static or shared libraries are looked for.
const SCRIPT: &str = "libfanout_leader_hint.a";
/// For linkers that take no scripts.
const OPT_OUT: &str = "KAFKA_SOURCE_NO_LINKER_SCRIPT";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-env-changed={OPT_OUT}");
    let linux = env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux");
    if !linux || env::var_os(OPT_OUT).is_some_and(|value| value != "0") {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let objects = cc::Build::new().cargo_metadata(false).file(SOURCE).compile_intermediates();
    // An object by its path and no archive: it is linked even where nothing but the script
    // names what is in it, and in whatever order the libraries come.
    let object = objects.first().expect("one source, one object").display();
    let script = format!(
        "INPUT(\"{object}\")\nrd_kafka_metadata_update_op = fanout_rd_kafka_metadata_update_op;\n"
    );
    fs::write(out.join(SCRIPT), script).expect("cargo's own folder can be written");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=dylib=fanout_leader_hint");
}
