//! What `lddgan train` starts with: networks of other runs, decoders and generators, and latents in files.

use std::path::Path;

use crate::common::{fail, program, succeed};
use crate::folder::{AUTOENCODER, Folder, PRESET, bits};
use crate::run_folder::{assert_same_state, losses, newest};

/// With both discriminators, on a decoder that starts from another run's.
#[test]
fn a_decoder_learns_on_and_is_put_under_a_generator() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "gan", &["--images", "0"]));
    let first = folder.path("ae").join(AUTOENCODER);
    let preset = std::fs::read_to_string(PRESET).unwrap();
    let losses_on_features = "adversarial = 0.1\nfeatures = 1.0\nprojected = 0.5\nprojected_from = 8\n";
    std::fs::write(folder.path("features.toml"), preset.replace("adversarial = 0.1\n", losses_on_features)).unwrap();
    let command = |out: &str, more: &[&str]| {
        let mut command = program(&["train", "autoencoder", "--hold-encoder", "--preset"]);
        command.arg(folder.path("features.toml")).arg("--data").arg(folder.path("images"));
        command.arg("--out").arg(folder.path(out)).args(more);
        command
    };
    let network = ["--features", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/backbone.onnx")];
    let train = |out: &str, more: &[&str]| command(out, more).args(network).output().unwrap();
    let start = ["--autoencoder", first.to_str().unwrap()];
    succeed(&train("whole", &start));
    succeed(&train("parts", &[&start[..], &["--images", "8"]].concat()));
    succeed(&train("parts", &["--resume"]));
    assert_same_state(&folder.path("whole"), &folder.path("parts"));
    let parts = ["features", "projected_discriminator", "projected"];
    let counts = parts.map(|part| losses(&folder.path("whole")).iter().filter(|line| line.get(part).is_some()).count());
    assert_eq!(counts, [4, 4, 2]);

    // Samples beside reconstructions: the decoder becomes another one, and what they are does not depend on where a run began.
    let model = folder.path("gan/model.safetensors");
    let samples = [&start[..], &["--generator", model.to_str().unwrap()]].concat();
    succeed(&train("samples", &samples));
    succeed(&train("samples_parts", &[&samples[..], &["--images", "8"]].concat()));
    succeed(&train("samples_parts", &["--resume", "--generator", model.to_str().unwrap()]));
    assert_same_state(&folder.path("samples"), &folder.path("samples_parts"));
    assert_ne!(bits(&folder.path("samples").join(AUTOENCODER)), bits(&folder.path("whole").join(AUTOENCODER)));
    fail(&train("samples_parts", &["--resume"]), &["generator"]);
    fail(
        &train("none", &[&start[..], &["--generator", first.to_str().unwrap()]].concat()),
        &[AUTOENCODER, "generator"],
    );

    let put = |model: &Path, out: &str| {
        let mut command = program(&["replace-decoder", "--autoencoder"]);
        command.arg(folder.path("whole").join(AUTOENCODER)).arg("--model").arg(model);
        command.arg("--out").arg(folder.path(out)).output().unwrap()
    };
    succeed(&put(&model, "model.safetensors"));
    let [before, after] = [model.clone(), folder.path("model.safetensors")].map(|path| bits(&path));
    assert_eq!(before.len(), after.len());
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        assert!(name.starts_with("decoder.") || before == after, "{name}");
    }
    assert_ne!(before, after);
    // The decoder of a model: what its own generator has seen is not what this one has.
    succeed(&folder.train("gan", "more", &["--images", "8"]));
    let mut other = program(&["replace-decoder", "--autoencoder"]);
    other.arg(folder.path("more/model.safetensors")).arg("--model").arg(&model);
    succeed(&other.arg("--out").arg(folder.path("other.safetensors")).output().unwrap());
    let counts = |file: &str| {
        let bytes = std::fs::read(folder.path(file)).unwrap();
        lddgan::ModelFile::from_bytes(&bytes, file).unwrap().provenance.images
    };
    assert_eq!((counts("other.safetensors")["gan"], counts("more/model.safetensors")["gan"]), (0, 8));
    fail(&put(&first, "none.safetensors"), &[AUTOENCODER, "no generator"]);
    let large = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/models/faces64.safetensors");
    fail(&put(Path::new(large), "none.safetensors"), &[AUTOENCODER, "another kind or size", "faces64"]);

    fail(&command("none", &start).output().unwrap(), &["--features", "tiny"]);
    let missing = folder.path("missing.onnx").display().to_string();
    fail(&command("none", &["--features", &missing]).output().unwrap(), &["missing.onnx"]);
    fail(&folder.train("autoencoder", "none", &network), &["leave --features out"]);
    fail(&train("none", &["--autoencoder", large]), &["faces64.safetensors", "preset"]);
}

/// From a Gaussian start, on encoded latents alone: the moments are those of the latents, are not trained, and a resumed run
/// takes them from its checkpoint. A run that begins with another's generator takes its moments, too.
#[test]
fn latents_alone_train_a_generator_with_a_gaussian_start() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    let autoencoder = folder.path("ae").join(AUTOENCODER);
    let latents = folder.path("latents.safetensors");
    let mut encode = program(&["data", "encode", "--data"]);
    encode.arg(folder.path("images")).arg("--autoencoder").arg(&autoencoder).arg("--out").arg(&latents);
    assert!(succeed(&encode.output().unwrap()).contains("20 latents"));
    let gaussian = std::fs::read_to_string(PRESET).unwrap();
    let gaussian = gaussian.replace("z_dim = 6\n", "z_dim = 6\ngaussian_modes = 6\ntanh = false\n");
    let gaussian =
        gaussian.replace("time_embedding = 8\n", "time_embedding = 8\ngaussian_modes = 6\nlatent_size = 8\n");
    // Nothing that depends on how long the whole run is to be.
    let gaussian = gaussian.replace("ema_decay = 0.9", "ema_decay = 0.9\nreconstruction = 0.0");
    let preset = folder.path("gaussian.toml");
    std::fs::write(&preset, gaussian + "\n[diffusion]\nalpha_bar = [0.7, 0.3, 0.06, 0.0001]\n").unwrap();
    let train = |out: &str, latents: &Path, more: &[&str]| {
        let mut command = program(&["train", "gan", "--preset"]);
        command.arg(&preset).arg("--latents").arg(latents).arg("--autoencoder").arg(&autoencoder);
        command.arg("--out").arg(folder.path(out)).args(more).output().unwrap()
    };
    succeed(&train("whole", &latents, &[]));
    succeed(&train("parts", &latents, &["--images", "8"]));
    succeed(&train("parts", &latents, &["--resume"]));
    assert_same_state(&folder.path("whole"), &folder.path("parts"));
    let judged = losses(&folder.path("whole")).into_iter().filter(|line| line.get("distance").is_some());
    let figures = ["distance", "precision", "recall", "spread"];
    let finite = |line: &serde_json::Value| figures.iter().all(|name| line[name].as_f64().is_some_and(f64::is_finite));
    assert!(judged.map(|line| finite(&line)).eq([true, true]), "the first and the last checkpoint have figures");
    let ordered = losses(&folder.path("whole")).iter().filter(|line| line.get("ordered/0").is_some()).count();
    assert!(ordered > 0, "no line has the share of pairs of step 0 that were ordered right");

    let moments = |run: &str| {
        let file = bits(&folder.path(run).join("model.safetensors"));
        file.into_iter().filter(|(name, _)| name.starts_with("generator.gaussian.")).collect::<Vec<_>>()
    };
    let before = moments("whole");
    assert_eq!(before.iter().map(|(_, values)| values.len()).collect::<Vec<_>>(), [6 * 3 * 64, 3 * 64, 6]);
    let started = folder.path("whole").join("model.safetensors");
    succeed(&train("further", &latents, &["--generator", started.to_str().unwrap()]));
    assert_eq!(moments("further"), before);

    fail(&train("none", &folder.path("absent.safetensors"), &[]), &["absent.safetensors", "cannot train from"]);
    std::fs::copy(&started, folder.path("other.safetensors")).unwrap();
    fail(&train("none", &folder.path("other.safetensors"), &[]), &["other.safetensors", "another autoencoder"]);
    let mut nothing = program(&["train", "gan", "--preset"]);
    nothing.arg(&preset).arg("--autoencoder").arg(&autoencoder).arg("--out").arg(folder.path("none"));
    fail(&nothing.output().unwrap(), &["--data"]);
}

/// A file of latents says that it has none of mirror images; only a preset that does without them trains on it. Where the
/// images are at hand, such a preset encodes no others.
#[test]
fn latents_may_be_of_the_images_alone() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    let autoencoder = folder.path("ae").join(AUTOENCODER);
    let encode = |out: &str, mirrored: &str| {
        let mut encode = program(&["data", "encode", "--mirrored", mirrored, "--data"]);
        encode.arg(folder.path("images")).arg("--autoencoder").arg(&autoencoder).arg("--out").arg(folder.path(out));
        succeed(&encode.output().unwrap())
    };
    assert!(encode("both.safetensors", "true").contains("20 latents"));
    assert!(encode("own.safetensors", "false").contains("10 latents"));
    let own = std::fs::read_to_string(PRESET).unwrap().replace("[train_gan]\n", "[train_gan]\nmirrored = false\n");
    std::fs::write(folder.path("own.toml"), own).unwrap();
    let train = |out: &str, preset: &Path, more: &[&str]| {
        let mut train = program(&["train", "gan", "--images", "8", "--preset"]);
        train.arg(preset).arg("--autoencoder").arg(&autoencoder).arg("--out").arg(folder.path(out));
        train.args(more).current_dir(folder.path("")).output().unwrap()
    };
    let (preset, own) = (Path::new(PRESET), folder.path("own.toml"));
    let latents = ["--latents", "own.safetensors"];
    fail(&train("none", preset, &latents), &["own.safetensors", "no latents of mirror images", "`mirrored = false`"]);
    succeed(&train("alone", &own, &latents));
    succeed(&train("both", &own, &["--latents", "both.safetensors"]));

    let data = ["--data", "images", "--latents", "kept.safetensors"];
    succeed(&train("data", &own, &data));
    let said = succeed(&train("again", &own, &data));
    assert!(said.contains("10 latents, encoded before"), "{said}");
    assert_same_state(&folder.path("data"), &folder.path("again"));
    let said = succeed(&train("mirrored", preset, &data));
    assert!(said.contains("encoding again"), "{said}");
    let said = succeed(&train("more than needed", &own, &data));
    assert!(said.contains("20 latents, encoded before"), "{said}");
}

/// A bit that flipped in the file of latents: they are encoded again where the images are at hand.
#[test]
fn damaged_latents_are_not_trained_on() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "whole", &[]));
    succeed(&folder.train("gan", "gan", &["--images", "0"]));
    let path = folder.path("gan/latents.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 0x40;
    std::fs::write(&path, &bytes).unwrap();
    let mut alone = program(&["train", "gan", "--preset", PRESET, "--autoencoder"]);
    alone.arg(folder.path("ae").join(AUTOENCODER)).arg("--latents").arg(&path).arg("--out").arg(folder.path("alone"));
    fail(&alone.output().unwrap(), &["latents.safetensors", "altered or damaged"]);
    let said = succeed(&folder.train("gan", "gan", &["--resume"]));
    assert!(said.contains("altered or damaged") && said.contains("encoding again"), "{said}");
    assert_same_state(&folder.path("whole"), &folder.path("gan"));
}

/// A run that starts with the networks of another one has them, and counts the other's training.
#[test]
fn a_run_starts_with_the_networks_of_another() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "first", &[]));
    let [generator, discriminator] =
        ["model", "discriminator"].map(|name| folder.path("first").join(name).with_extension("safetensors"));
    let options = |generator: &Path| -> Vec<String> {
        let files = [("--generator", generator), ("--discriminator", &discriminator)];
        files.into_iter().flat_map(|(option, file)| [option.to_string(), file.display().to_string()]).collect()
    };
    let train = |out: &str, generator: &Path, more: &[&str]| {
        folder.train_command("gan", out, more).args(options(generator)).output().unwrap()
    };
    succeed(&train("second", &generator, &["--images", "0"]));
    for name in ["model.safetensors", "discriminator.safetensors"] {
        assert_eq!(bits(&folder.path("first").join(name)), bits(&folder.path("second").join(name)), "{name}");
    }
    succeed(&folder.train("gan", "second", &["--images", "8", "--resume"]));
    let said = succeed(&program(&["info", "--model"]).arg(folder.path("second/model.safetensors")).output().unwrap());
    assert!(said.contains("gan = 24") && said.contains("gan = 6"), "{said}");
    assert_ne!(bits(&generator), bits(&folder.path("second/model.safetensors")));
    // The average begins at the generator that the run starts with.
    succeed(&train("third", &generator, &["--images", "4"]));
    let state = bits(&newest(&folder.path("third")).join("state.safetensors"));
    let values = |tensors: &[(String, Vec<u32>)], name: &str| -> Vec<f32> {
        let tensor = tensors.iter().find(|(tensor, _)| tensor == name).unwrap();
        tensor.1.iter().map(|&bits| f32::from_bits(bits)).collect()
    };
    let before = bits(&generator);
    let name = "generator.conv_in.weight";
    let [average, after] = ["ema", "generator"].map(|part| values(&state, &format!("{part}/{name}")));
    // As the preset has it.
    let decay = 0.9;
    for ((average, after), before) in average.iter().zip(after).zip(values(&before, name)) {
        assert!((average - (decay * before + (1.0 - decay) * after)).abs() < 1e-6, "{average} of {before}, {after}");
        assert_ne!(before, after);
    }
    let wrong = folder.path("ae").join(AUTOENCODER);
    fail(&train("fourth", &wrong, &[]), &["autoencoder.safetensors", "generator", "preset"]);
    fail(&train("third", &generator, &["--resume"]), &["--resume", "--generator"]);
}

#[test]
fn latents_are_encoded_once() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    let latents = folder.path("latents.safetensors").display().to_string();
    let train =
        |out: &str, more: &[&str]| succeed(&folder.train("gan", out, &[&["--latents", &latents], more].concat()));
    succeed(&folder.train("gan", "own", &[]));
    assert!(folder.path("own/latents.safetensors").exists());
    assert!(train("first", &[]).contains("latents of 10 images encoded"));
    assert!(!folder.path("first/latents.safetensors").exists());
    let said = train("second", &[]);
    assert!(said.contains("20 latents, encoded before") && !said.contains("images encoded"), "{said}");
    for run in ["first", "second"] {
        assert_same_state(&folder.path("own"), &folder.path(run));
    }
    // Another image, another autoencoder, a damaged file: encoded again, and it says why.
    std::fs::remove_file(folder.path("images/3.png")).unwrap();
    assert!(train("third", &[]).contains("holds latents of other images"));
    std::fs::remove_dir_all(folder.path("ae")).unwrap();
    succeed(&folder.train("autoencoder", "ae", &["--seed", "7"]));
    assert!(train("fourth", &[]).contains("holds latents of another autoencoder"));
    std::fs::write(&latents, b"other").unwrap();
    assert!(train("fifth", &[]).contains("latents.safetensors: not a whole safetensors file"));
    assert_same_state(&folder.path("fourth"), &folder.path("fifth"));
    // A run goes on without a file that cannot be written.
    let said = succeed(&folder.train(
        "gan",
        "sixth",
        &["--latents", &folder.path("images/0.png/latents").display().to_string()],
    ));
    assert!(said.contains("warning") && said.contains("0.png"), "{said}");
    assert_same_state(&folder.path("fourth"), &folder.path("sixth"));
}

/// A generator of single steps goes on with whole chains, judged by the discriminator and on pictures: a run in parts ends as a
/// whole one, and from images as from their latents.
#[test]
fn a_generator_goes_on_with_chains() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "steps", &[]));
    let autoencoder = folder.path("ae").join(AUTOENCODER);
    let chain = "reconstruction = 0.0\n[train_gan.chain]\nsteps = [1, 4]\npairs = [0.4, 0.3, 0.2, 0.1]\nprojected = 0.7\n\
                 picture_size = 16\nshift = 2\ncontrast = 0.2\ngenerator_from = 8\nbetas = [0.0, 0.99]\n";
    let preset = folder.path("chain.toml");
    std::fs::write(&preset, std::fs::read_to_string(PRESET).unwrap() + chain).unwrap();
    let command = |out: &str, more: &[&str]| {
        let mut command = program(&["train", "gan", "--preset"]);
        command.arg(&preset).arg("--data").arg(folder.path("images")).arg("--autoencoder").arg(&autoencoder);
        command.arg("--out").arg(folder.path(out)).args(more);
        command
    };
    let network = ["--features", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/backbone.onnx")];
    let start = ["steps/model.safetensors", "steps/discriminator.safetensors"].map(|name| folder.path(name));
    let start = ["--generator", start[0].to_str().unwrap(), "--discriminator", start[1].to_str().unwrap()];
    let train = |out: &str, more: &[&str]| command(out, more).args(network).output().unwrap();
    succeed(&train("whole", &start));
    succeed(&train("parts", &[&start[..], &["--images", "12"]].concat()));
    succeed(&train("parts", &["--resume"]));
    assert_same_state(&folder.path("whole"), &folder.path("parts"));
    let lines = losses(&folder.path("whole"));
    let count = |name: &str| lines.iter().filter(|line| line.get(name).is_some()).count();
    let logged =
        ["projected", "projected_discriminator", "gradient_ratio", "ordered/pictures", "gradient_norm/projected"];
    assert!(logged.map(count).iter().all(|&count| count == 4), "{lines:?}");
    let norms = lines.iter().filter_map(|line| line["gradient_norm/generator"].as_f64());
    assert_eq!(norms.map(|norm| norm > 0.0).collect::<Vec<_>>(), [false, false, true, true]);
    assert_ne!(bits(&folder.path("whole/model.safetensors")), bits(&folder.path("steps/model.safetensors")));

    // Without images, pictures are fitted to reconstructions.
    let latents = folder.path("whole/latents.safetensors");
    let mut alone = program(&["train", "gan", "--preset"]);
    alone.arg(&preset).arg("--latents").arg(&latents).arg("--autoencoder").arg(&autoencoder);
    succeed(&alone.arg("--out").arg(folder.path("alone")).args(start).args(network).output().unwrap());

    fail(&command("none", &start).output().unwrap(), &["--features", "tiny"]);
    fail(&folder.train("gan", "none", &network), &["leave --features out"]);
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tiny.toml");
    fail(&command("parts", &["--resume", "--features", other]).output().unwrap(), &["features was"]);
}
