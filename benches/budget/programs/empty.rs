//! The baseline of sizes.

fn main() {
    std::hint::black_box([0.0f32; 10]);
}
