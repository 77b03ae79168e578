//! Random numbers from one generator, which a test can seed.

use std::sync::LazyLock;

use parking_lot::Mutex;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

static GENERATOR: LazyLock<Mutex<StdRng>> = LazyLock::new(|| Mutex::new(StdRng::from_os_rng()));

/// Makes every later number follow from `seed`.
pub fn seed(seed: u64) {
    *GENERATOR.lock() = StdRng::seed_from_u64(seed);
}

/// Any u64.
pub fn u64() -> u64 {
    GENERATOR.lock().next_u64()
}

/// Any u128.
pub fn u128() -> u128 {
    GENERATOR.lock().random()
}

/// A number below `bound`, which is not 0.
pub fn below(bound: u64) -> u64 {
    assert!(bound > 0, "nothing is below 0");
    GENERATOR.lock().random_range(0..bound)
}

/// Fills `bytes`: cancel keys, salts.
pub fn fill(bytes: &mut [u8]) {
    GENERATOR.lock().fill_bytes(bytes);
}
