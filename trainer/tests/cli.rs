//! The `lddgan` program as its users run it: sampling, measuring, and what it says when something is wrong.

mod common;
#[path = "common/folder.rs"]
mod folder;

use std::path::Path;

use candle_core::DType;
use lddgan::ModelFile;

use common::{fail, program, succeed};
use folder::{AUTOENCODER, Folder, PRESET, bits};

/// Every weight lies half-way between those of the two models.
#[test]
fn models_are_averaged() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "gan", &["--checkpoint-steps", "1", "--keep", "9"]));
    let [first, last] =
        ["00000000", "00000016"].map(|name| folder.path("gan/checkpoints").join(name).join("model.safetensors"));
    let average = |models: &[&Path]| {
        let mut command = program(&["average", "--out"]);
        command.arg(folder.path("mean.safetensors"));
        for model in models {
            command.arg("--model").arg(model);
        }
        command.output().unwrap()
    };
    // How many weights lie between different ones, all of them half-way.
    let half_way = |a: &Path, b: &Path| {
        succeed(&average(&[a, b]));
        let [a, b, mean] = [a, b, &folder.path("mean.safetensors")].map(bits);
        assert_eq!(a.len(), mean.len());
        let mut moved = 0;
        for ((name, mean), ((_, a), (_, b))) in mean.iter().zip(a.iter().zip(&b)) {
            for (mean, (a, b)) in mean.iter().zip(a.iter().zip(b)) {
                let [mean, a, b] = [mean, a, b].map(|&bits| f32::from_bits(bits));
                assert!((mean - (a + b) / 2.0).abs() <= 1e-3 * mean.abs() + 1e-7, "{name}: {mean} of {a}, {b}");
                moved += usize::from(a != b);
            }
        }
        moved
    };
    assert_eq!(half_way(&last, &last), 0);
    assert!(half_way(&first, &last) > 1000);
    fail(&average(&[&folder.path("mean.safetensors")]), &["two or more"]);
    let other = folder.path("ae").join(AUTOENCODER);
    fail(&average(&[&folder.path("mean.safetensors"), &other]), &["autoencoder.safetensors", "differ in kind"]);
}

#[test]
fn a_model_makes_the_same_images_for_the_same_seeds() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "gan", &[]));
    let model = folder.path("gan/model.safetensors");
    let sample = |seed: &str, count: &str, out: &str| {
        let mut command = program(&["sample", "--seed", seed, "--count", count]);
        command.arg("--model").arg(&model).arg("--out").arg(folder.path(out)).arg("--grid").arg(folder.path("all.png"));
        succeed(&command.output().unwrap());
    };
    sample("3", "3", "first");
    // In another batch, at another place.
    sample("5", "1", "second");
    let png = |out: &str| image::open(folder.path(out).join("tiny-5.png")).unwrap().to_rgb8();
    assert_eq!((png("first").dimensions(), png("first")), ((16, 16), png("second")));
    let explore = |options: &[&str]| {
        let mut command = program(&["sample"]);
        let defaults = [["--seed", "3"], ["--count", "3"]].into_iter().filter(|[name, _]| !options.contains(name));
        command
            .args(defaults.flatten())
            .args(options)
            .arg("--model")
            .arg(&model)
            .arg("--out")
            .arg(folder.path("way"))
            .output()
            .unwrap()
    };
    succeed(&explore(&["--interpolate", "5"]));
    let open = |name: &str| image::open(folder.path("way").join(name)).unwrap().to_rgb8();
    let way = |i: usize| open(&format!("tiny-3-to-5-{i}-of-2.png"));
    assert_eq!(way(2), png("second"));
    assert_ne!(way(1), way(2));
    succeed(&explore(&["--steps", "1", "--truncation", "0.5"]));
    assert_ne!(open("tiny-5-steps-1-truncation-0.5.png"), png("second"));
    succeed(&explore(&["--x-of", "5", "--z-step", "2"]));
    let way = |seed: u64| open(&format!("tiny-{seed}-x-of-5-z-step-2.png"));
    // The noise of seed 5 alone is that of its own image.
    assert_eq!(way(5), png("second"));
    let own = image::open(folder.path("first").join("tiny-3.png")).unwrap().to_rgb8();
    assert_ne!(way(3), own);
    fail(&explore(&["--x-of", "5", "--z-step", "5"]), &["--z-step must be one of [4, 3, 2, 1]"]);
    fail(&explore(&["--x-of", "5", "--z-of", "5"]), &["--x-of", "--z-of"]);
    fail(&explore(&["--steps", "9"]), &["9 steps", "from 1 to 4"]);
    fail(&explore(&["--truncation", "0"]), &["--truncation"]);
    fail(&explore(&["--count", "0"]), &["--count", "1 or more"]);
    fail(&explore(&["--seed", "18446744073709551614"]), &["3 images from seed 18446744073709551614", "last seed"]);
    succeed(&explore(&["--seed", "18446744073709551613"]));
    fail(
        &explore(&["--seed", "0", "--grid", "all.png", "--count", "18446744073709551615"]),
        &["too many for one picture"],
    );
    let said = succeed(&program(&["info", "--model"]).arg(&model).output().unwrap());
    assert!(said.contains("z_dim = 6") && said.contains("generator:"), "{said}");

    let reconstructed = |backend: &str| {
        let mut reconstruct = program(&["reconstruct", "--backend", backend, "--data"]);
        reconstruct.arg(folder.path("images")).arg("--model").arg(folder.path("ae").join(AUTOENCODER));
        succeed(&reconstruct.output().unwrap())
    };
    let said = reconstructed("cpu");
    assert!(said.contains("mean PSNR of 10 images"), "{said}");
    assert_eq!(said, reconstructed("candle"));
    // Said before anything is read or made.
    let gif = program(&["sample", "--model", "nowhere", "--grid", "all.gif"]).output().unwrap();
    fail(&gif, &["all.gif", "must end in .png or .jpg"]);
    // A model for sampling holds no encoder.
    let mut wrong = program(&["reconstruct", "--data"]);
    wrong.arg(folder.path("images")).arg("--model").arg(&model);
    fail(&wrong.output().unwrap(), &["model.safetensors", "no encoder"]);
}

/// The file of an image says what it was made from, wherever its model says it belongs.
#[test]
fn an_image_says_what_it_is() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &["--images", "4"]));
    succeed(&folder.train("gan", "gan", &["--images", "4"]));
    let bytes = std::fs::read(folder.path("gan/model.safetensors")).unwrap();
    let mut file = ModelFile::from_bytes(&bytes, "model").unwrap();
    file.provenance.name = "../../é".to_string();
    std::fs::write(folder.path("named.safetensors"), file.to_bytes(DType::F16).unwrap()).unwrap();
    let mut sample = program(&["sample", "--count", "2", "--seed", "7", "--steps", "2", "--truncation", "1.5"]);
    sample.arg("--model").arg(folder.path("named.safetensors")).arg("--out").arg(folder.path("a/b"));
    succeed(&sample.output().unwrap());
    let path = folder.path("a/b/_._..__-8-steps-2-truncation-1.5.png");
    let reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).read_info().unwrap();
    let info = reader.info();
    let plain = info.uncompressed_latin1_text.iter().map(|text| (text.keyword.clone(), text.text.clone()));
    let texts: Vec<_> =
        plain.chain(info.utf8_text.iter().map(|text| (text.keyword.clone(), text.get_text().unwrap()))).collect();
    for (keyword, text) in [("Seed", "8"), ("Model", "_._..__"), ("Steps", "2"), ("Truncation", "1.5")] {
        assert!(texts.contains(&(keyword.to_string(), text.to_string())), "{keyword}: {texts:?}");
    }
}

/// A name is another word for its mode, and images moved along it differ from those that are not.
#[test]
fn images_are_moved_along_directions() {
    let folder = Folder::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/models/faces256.safetensors");
    let named = folder.path("named.safetensors");
    let name = |names: &[&str]| {
        let mut command = program(&["name-directions", "--model", model]);
        for name in names {
            command.args(["--name", name]);
        }
        command.arg("--out").arg(&named).output().unwrap()
    };
    fail(&name(&["hair=256"]), &["hair=256", "directions 0 to 255"]);
    fail(&name(&["3=3"]), &["needs a name"]);
    succeed(&name(&["hair=3", "pose=1"]));
    let shown = succeed(&program(&["info", "--model"]).arg(&named).output().unwrap());
    assert!(shown.contains("name = \"hair\"") && shown.contains("mode = 3"), "{shown}");

    let sample = |directions: &[&str]| {
        let mut command = program(&["sample", "--count", "1", "--model"]);
        command.arg(&named).arg("--out").arg(folder.path("out"));
        for direction in directions {
            command.args(["--direction", direction]);
        }
        command.output().unwrap()
    };
    let picture = |name: &str| std::fs::read(folder.path("out").join(name)).unwrap();
    succeed(&sample(&["hair=2", "0=-1"]));
    let by_name = picture("faces256-0-directions-3=2,0=-1.png");
    succeed(&sample(&["3=2", "0=-1"]));
    assert_eq!(picture("faces256-0-directions-3=2,0=-1.png"), by_name);
    let reader = png::Decoder::new(std::io::Cursor::new(&by_name)).read_info().unwrap();
    let texts = &reader.info().uncompressed_latin1_text;
    assert!(texts.iter().any(|text| text.keyword == "Directions" && text.text == "3=2,0=-1"), "{texts:?}");
    succeed(&sample(&[]));
    let pixels = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().into_rgb8();
    assert_ne!(pixels(&picture("faces256-0.png")), pixels(&by_name));

    fail(&sample(&["nose=1"]), &["nose=1", "directions hair, pose, 0 to 255"]);
    fail(&sample(&["256=1"]), &["256=1"]);
    fail(&sample(&["hair"]), &["NAME=AMOUNT"]);
    fail(&sample(&["hair=9"]), &["-5 to 5"]);
}

#[test]
fn directions_are_found_and_images_moved_along_them() {
    let folder = Folder::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/models/faces64.safetensors");
    let moved = folder.path("moved.safetensors");
    let find = |model: &str| {
        let mut command = program(&["directions", "--model", model, "--count", "2", "--images", "64"]);
        command.arg("--out").arg(&moved).output().unwrap()
    };
    let gaussian = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/models/faces256.safetensors");
    fail(&find(gaussian), &["faces256.safetensors", "principal modes are its directions"]);
    let found = succeed(&find(model));
    assert!(found.contains("directions.noise/") && found.contains("with 2 directions"), "{found}");
    let sample = |backend: &str, direction: &str| {
        let mut command =
            program(&["sample", "--count", "1", "--direction", direction, "--backend", backend, "--model"]);
        command.arg(&moved).arg("--out").arg(folder.path(backend)).output().unwrap()
    };
    fail(&sample("cpu", "2=1"), &["2=1", "the directions 0 to 1"]);
    let picture = |backend: &str, amount: i32| {
        succeed(&sample(backend, &format!("1={amount}")));
        let path = folder.path(backend).join(format!("faces64-0-directions-1={amount}.png"));
        image::open(path).unwrap().into_rgb8()
    };
    let far =
        |a: &image::RgbImage, b: &image::RgbImage| a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    let one = picture("cpu", 4);
    assert!(far(&one, &picture("candle", 4)) <= 2);
    assert!(far(&one, &picture("cpu", -4)) > 50);
}

/// Every image is there as soon as it is made, so that a program that is killed leaves those.
#[test]
fn images_are_written_one_after_the_other() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &["--images", "4"]));
    succeed(&folder.train("gan", "gan", &["--images", "4"]));
    let mut sample = program(&["sample", "--count", "1000000000000", "--batch", "2", "--model"]);
    sample.arg(folder.path("gan/model.safetensors")).arg("--out").arg(folder.path("samples"));
    let mut child = sample.stdout(std::process::Stdio::null()).spawn().unwrap();
    while !folder.path("samples/tiny-1.png").exists() {
        assert!(child.try_wait().unwrap().is_none(), "ended without an image");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(image::open(folder.path("samples/tiny-1.png")).unwrap().width(), 16);
}

/// As with `| head` and on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_no_panic() {
    let folder = Folder::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let lost = program(&["info", "--preset", "faces64"]).stdout(full()).output().unwrap();
    fail(&lost, &["standard output cannot be written"]);
    assert_eq!(lost.status.code(), Some(1));
    let trained = folder.train_command("autoencoder", "ae", &[]).stdout(full()).stderr(full()).output().unwrap();
    assert_eq!(trained.status.code(), Some(1));
    let said = succeed(&program(&["info", "--model"]).arg(folder.path("ae").join(AUTOENCODER)).output().unwrap());
    assert!(said.contains("autoencoder = 16"), "{said}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = program(&["info", "--preset", "faces64"]).stdout(writer).output().unwrap();
    assert_eq!((closed.status.code(), String::from_utf8_lossy(&closed.stderr).as_ref()), (Some(141), ""));
}

/// As operators and launchers set them for one process.
#[test]
fn variables_of_one_process_are_no_obstacle() {
    let folder = Folder::new();
    for (number, variables) in [
        [("RANK", "0"), ("WORLD_SIZE", "1")],
        [("PMI_RANK", "0"), ("PMI_SIZE", "1")],
        [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")],
    ]
    .into_iter()
    .enumerate()
    {
        let mut train = folder.train_command("autoencoder", &number.to_string(), &["--images", "0"]);
        succeed(&train.envs(variables).output().unwrap());
    }
    let mut bench = program(&["bench", "train", "--preset", PRESET, "--batch", "4", "--trials", "1", "--warm-up", "0"]);
    succeed(&bench.envs([("RANK", "one"), ("WORLD_SIZE", "many")]).output().unwrap());
}

/// What the files compute is tested by another runtime, in the tests that span crates.
#[test]
fn a_model_is_exported() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &["--images", "4"]));
    succeed(&folder.train("gan", "gan", &["--images", "4"]));
    let export = |model: &str, out: &str, more: &[&str]| {
        let mut command = program(&["export", "--model"]);
        command.arg(folder.path(model)).arg("--onnx").arg(folder.path(out)).args(more).output().unwrap()
    };
    let bytes = |name: &str| std::fs::metadata(folder.path(name)).unwrap().len() as f64;
    let said = succeed(&export("gan/model.safetensors", "f32", &[]));
    assert!(said.contains("generator.onnx") && said.contains("decoder.onnx"), "{said}");
    succeed(&export("gan/model.safetensors", "f16", &["--dtype", "f16"]));
    assert!(bytes("f16/generator.onnx") < 0.8 * bytes("f32/generator.onnx"));
    // An autoencoder has no generator.
    succeed(&export(&format!("ae/{AUTOENCODER}"), "ae-onnx", &[]));
    assert!(bytes("ae-onnx/decoder.onnx") > 0.0 && !folder.path("ae-onnx/generator.onnx").exists());
    fail(&export("images/1.png", "none", &[]), &["1.png", "safetensors"]);
    assert!(!folder.path("none").exists());
}

#[test]
fn a_model_is_measured() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "gan", &[]));
    let (model, json) = (folder.path("gan/model.safetensors"), folder.path("figures.json"));
    let eval = |more: &[&str]| {
        let mut command = program(&["eval", "--data"]);
        command.arg(folder.path("images")).arg("--model").arg(&model).arg("--json").arg(&json).args(more);
        command.output().unwrap()
    };
    let weights = bits(&model);
    let mut reports = Vec::new();
    for more in [&["--count", "12"][..], &["--count", "12", "--update-model", "--batch", "1"]] {
        let said = succeed(&eval(more));
        assert!(said.contains("features: 64 principal components of 64x64 pixels"), "{said}");
        reports.push(serde_json::from_slice::<serde_json::Value>(&std::fs::read(&json).unwrap()).unwrap());
    }
    let report = &reports[0];
    let figures = |group: usize| report["measured"][group]["figures"].as_object().unwrap();
    let value = |group: usize, name: &str| figures(group)[name].as_f64().unwrap();
    assert_eq!((&report["generated_images"], &report["real_images"]), (&12.into(), &10.into()), "{report}");
    assert_eq!(figures(0).keys().collect::<Vec<_>>(), ["swd", "swd 16px"]);
    let names: Vec<_> = figures(1).keys().collect();
    assert_eq!(names, ["coverage", "density", "distance", "precision", "recall", "spread"]);
    assert!(value(0, "swd") > 0.0 && (0.0..=1.0).contains(&value(1, "precision")), "{report}");
    assert_eq!(report["measured"], reports[1]["measured"]);
    // The figures are in the model file, beside the same weights.
    assert_eq!(weights, bits(&model));
    let metrics = ModelFile::from_bytes(&std::fs::read(&model).unwrap(), "model").unwrap().provenance.metrics;
    let swd = metrics["swd (times 1000, 10 generated and 10 real images)"];
    assert!((swd - value(0, "swd")).abs() < 1e-9, "{metrics:?}");
    let recall = "recall (64 principal components of 64x64 pixels, 12 generated and 10 real images)";
    assert!(metrics.contains_key(recall), "{metrics:?}");

    // The real images beside themselves.
    let images = folder.path("images").display().to_string();
    succeed(&eval(&["--count", "10", "--metrics", "distance,spread", "--validation", &images]));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let same = &report["validation"]["measured"][0]["figures"];
    assert!(same["distance"].as_f64().unwrap().abs() < 1e-3 && same["spread"] == 1.0, "{report}");

    fail(&eval(&["--metrics", "swd,fid"]), &["fid", "--features", "--inception"]);
    fail(&eval(&["--features", &images]), &["images"]);
    fail(&eval(&["--features", &format!("{images}/1.png")]), &["1.png", "the ONNX network"]);
    fail(&eval(&["--metrics", "recall", "--count", "3"]), &["recall needs at least 10 images", "not 3"]);
    let warned = String::from_utf8(eval(&["--metrics", "recall", "--count", "10"]).stderr).unwrap();
    assert!(warned.contains("recall of 10 images: compare only with figures of as many images"), "{warned}");
    let foreign = model.display().to_string();
    fail(&eval(&["--metrics", "kid", "--inception", &foreign]), &["missing: Conv2d_1a_3x3.conv.weight"]);
}

/// The systems that the paper compares with: no autoencoder, and a wavelet transform in its place.
#[test]
fn pixels_and_wavelets_need_no_autoencoder() {
    let folder = Folder::new();
    let preset = |name: &str, kind: &str, channels: i64, size: i64| {
        let mut preset: toml::Table = std::fs::read_to_string(PRESET).unwrap().parse().unwrap();
        preset["name"] = name.into();
        let autoencoder = format!("kind = '{kind}'\nimage_channels = 3\nimage_size = 16\nlatent_channels = {channels}");
        preset["autoencoder"] = autoencoder.parse::<toml::Table>().unwrap().into();
        preset.remove("train_autoencoder");
        preset["generator"]["latent_channels"] = channels.into();
        preset["generator"]["latent_size"] = size.into();
        preset["generator"]["attention"] = vec![size / 2].into();
        preset["discriminator"]["latent_channels"] = channels.into();
        preset
    };
    let train = |name: &str, preset: &toml::Table| {
        let file = folder.path(&format!("{name}.toml"));
        std::fs::write(&file, preset.to_string()).unwrap();
        let mut train = program(&["train", "gan", "--images", "8", "--preset"]);
        train.arg(&file).arg("--data").arg(folder.path("images")).arg("--out").arg(folder.path(name)).output().unwrap()
    };
    let mut wavelets = preset("wavelets", "haar", 12, 8);
    let mut set = |section: &str, settings: &str| {
        let settings: toml::Table = settings.parse().unwrap();
        wavelets[section].as_table_mut().unwrap().extend(settings);
        wavelets.clone()
    };
    set("autoencoder", "band_order = 'hl-first'");
    set("generator", "wavelet = true\npatch = 2");
    let quiet = set("train_gan", "latent_normalization = { fixed = 2.0 }\nreconstruction_schedule = 'constant'");
    // Twice as much as the generator can reach.
    let loud = set("train_gan", "latent_normalization = { fixed = 1.0 }");
    let presets = [
        ("pixels", preset("pixels", "identity", 3, 16)),
        ("haar", preset("haar", "haar", 12, 8)),
        ("haar-twice", preset("haar-twice", "haar", 48, 4)),
        ("wavelets", quiet),
    ];
    for (name, preset) in &presets {
        succeed(&train(name, preset));
        let mut sample = program(&["sample", "--count", "1", "--model"]);
        sample.arg(folder.path(name).join("model.safetensors")).arg("--out").arg(folder.path("samples"));
        succeed(&sample.output().unwrap());
        let picture = image::open(folder.path(&format!("samples/{name}-0.png"))).unwrap();
        assert_eq!((picture.width(), picture.height()), (16, 16));
    }
    fail(&train("loud", &loud), &["wavelets", "latent_normalization", "by 2"]);
    let mut train = program(&["train", "gan", "--preset", PRESET]);
    train.arg("--data").arg(folder.path("images")).arg("--out").arg(folder.path("out"));
    fail(&train.output().unwrap(), &["tiny", "--autoencoder"]);
}

#[test]
fn every_file_that_the_program_writes_is_shown() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "gan", &["--checkpoint-steps", "2"]));
    let golden = folder.path("golden.safetensors");
    let mut record = program(&["golden", "--count", "1", "--out"]);
    succeed(&record.arg(&golden).arg("--model").arg(folder.path("gan/model.safetensors")).output().unwrap());
    let prepared = folder.path("images.safetensors");
    let mut prepare = program(&["data", "prepare", "--size", "16", "--out"]);
    succeed(&prepare.arg(&prepared).arg("--data").arg(folder.path("images")).output().unwrap());
    let info = |path: &Path| program(&["info", "--model"]).arg(path).output().unwrap();
    for (path, words) in [
        ("ae/autoencoder.safetensors", ["encoder:", "codebook: 48 parameters"]),
        ("gan/model.safetensors", ["generator:", "sampling:"]),
        ("gan/discriminator.safetensors", ["[discriminator]", "of latents of any size"]),
        ("gan", ["training state", "\"images\": 16"]),
        ("gan/checkpoints/00000016", ["training state", "\"step\": 4"]),
        ("gan/checkpoints/00000016/state.safetensors", ["training state", "tensors"]),
        ("gan/latents.safetensors", ["latents", "\"means\": F32"]),
        ("images.safetensors", ["prepared images", "\"size\": 16"]),
        ("golden.safetensors", ["golden tensors", "\"latent/4\""]),
    ] {
        let said = succeed(&info(&folder.path(path)));
        assert!(words.iter().all(|word| said.contains(word)), "{path}: {said}");
    }
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/train-step/netG_init.pth");
    assert!(succeed(&info(&fixture)).contains("a PyTorch checkpoint"));
    fail(&info(&folder.path("images/1.png")), &["1.png", "not a PyTorch checkpoint"]);
    fail(&info(&folder.path("images")), &["images", "neither the folder of a run"]);
}

/// Weights that are not finite make nothing; looking at them is possible.
#[test]
fn weights_that_are_not_finite_are_refused_everywhere_but_in_info() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/not-finite.safetensors");
    for arguments in [
        &["sample", "--grid", "x.png", "--model", model][..],
        &["golden", "--out", "x.safetensors", "--model", model],
        &["check", "--model", model],
        &["export", "--onnx", "x", "--model", model],
        &["average", "--out", "x.safetensors", "--model", model, "--model", model],
        &["bench", "sample", "--batch", "1", "--seconds", "1", "--model", model],
        &["neighbours", "--data", ".", "--validation", ".", "--model", model],
    ] {
        fail(&program(arguments).output().unwrap(), &["not-finite.safetensors", "infinite or not a number"]);
        assert!(!Path::new("x.png").exists() && !Path::new("x.safetensors").exists() && !Path::new("x").exists());
    }
    let said = succeed(&program(&["info", "--model", model]).output().unwrap());
    assert!(said.contains("values are infinite or not a number"), "{said}");
}

/// Far more than any machine has.
#[test]
fn batches_that_no_memory_holds_are_refused() {
    let bench = program(&["bench", "sample", "--preset", "celebahq256", "--batch", "1000000"]).output().unwrap();
    fail(&bench, &["1000000 images at a time would take about", "--batch"]);
    fail(&program(&["bench", "sample", "--preset", "faces64", "--batch", "0"]).output().unwrap(), &["--batch", "0"]);
}

/// Much more memory for the published networks of 256x256 images; and nothing is written.
#[test]
fn a_dry_run_says_how_much_memory_training_takes() {
    let folder = Folder::new();
    for (preset, most) in [("faces64", 1.0), ("celebahq256", 50.0)] {
        let out = folder.path("gan");
        let options = ["train", "gan", "--preset", preset, "--data", "faces", "--dry-run", "--out"];
        let output = program(&options).arg(out).output().unwrap();
        succeed(&output);
        let said = String::from_utf8(output.stdout).unwrap();
        let gib = said.split("about ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let gib: f64 = gib.parse().unwrap();
        assert!((most / 10.0..most).contains(&gib), "{said}");
        assert!(said.contains("train_gan.batch"), "{said}");
    }
    assert!(!folder.path("gan").exists());
}

#[test]
fn bad_data_is_named() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("empty")).unwrap();
    std::fs::create_dir(folder.path("broken")).unwrap();
    std::fs::write(folder.path("broken/a.png"), b"no picture").unwrap();
    std::fs::write(folder.path("text.parquet"), b"no table").unwrap();
    let train = |data: &str| {
        let mut command = program(&["train", "autoencoder", "--preset", PRESET]);
        command.arg("--data").arg(folder.path(data)).arg("--out").arg(folder.path("out")).output().unwrap()
    };
    fail(&train("empty"), &["empty", "no images"]);
    fail(&train("broken"), &["broken", "a.png"]);
    fail(&train("text.parquet"), &["text.parquet", "Parquet"]);
    fail(&train("nowhere"), &["nowhere"]);
}

#[test]
fn bad_model_files_are_named() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    let bytes = std::fs::read(folder.path("ae").join(AUTOENCODER)).unwrap();
    let reconstruct = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path(name), bytes).unwrap();
        let mut command = program(&["reconstruct", "--data"]);
        command.arg(folder.path("images")).arg("--model").arg(folder.path(name)).output().unwrap()
    };
    fail(&reconstruct("short", &bytes[..bytes.len() / 2]), &["short", "whole"]);
    fail(&reconstruct("foreign", b"GIF89a and more"), &["foreign", "safetensors"]);
    let mut altered = bytes.clone();
    *altered.last_mut().unwrap() ^= 1;
    fail(&reconstruct("altered", &altered), &["altered", "SHA-256"]);

    // A configuration that does not fit its tensors: every tensor that is missing or too much is listed.
    let mut file = ModelFile::from_bytes(&bytes, "ae").unwrap();
    file.config.autoencoder.as_mut().unwrap().decoder.as_mut().unwrap().multipliers = vec![1, 2];
    let words = ["unfit", "wrong shape: decoder.conv_in.weight", "missing: decoder.up.0.block.0.shortcut.weight"];
    fail(&reconstruct("unfit", &file.to_bytes(DType::F32).unwrap()), &words);
    // An autoencoder cannot sample.
    let mut sample = program(&["sample", "--grid", "x.png", "--model"]);
    fail(&sample.arg(folder.path("ae").join(AUTOENCODER)).output().unwrap(), &[AUTOENCODER, "no generator"]);
}

#[test]
fn weights_of_the_perceptual_loss_that_cannot_be_used_are_named() {
    let folder = Folder::new();
    let missing = folder.path("vgg16.pth").display().to_string();
    fail(&folder.train("autoencoder", "ae", &["--lpips", &missing]), &["vgg16.pth"]);
    // A model file holds none of the tensors.
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/models/faces64.safetensors");
    let output = folder.train("autoencoder", "ae", &["--lpips", model]);
    fail(&output, &["faces64.safetensors", "features.0.weight", "lin4.model.1.weight"]);
    assert!(!folder.path("ae/checkpoints").exists());
}

/// The four methods on CIFAR-10, with the operations that were counted in their authors' implementations.
#[test]
fn the_systems_of_the_paper_are_timed_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("paper.json");
    let mut command =
        program(&["bench", "paper", "--data", "cifar10", "--batch", "1", "--warm-up", "0", "--trials", "1"]);
    let table = succeed(&command.arg("--json").arg(&json).output().unwrap());
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let methods = report["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 4);
    for (row, (preset, gflops)) in
        methods.iter().zip([("ddgan-cifar10", 56.27), ("wavediff-cifar10", 13.33), ("cifar10", 20.52)])
    {
        assert_eq!(row["preset"], preset);
        assert!((row["gflops_per_image"].as_f64().unwrap() - gflops).abs() < 0.02, "{row}");
        assert!(row["milliseconds_per_image"].as_f64().unwrap() > 0.0 && row["bytes"].as_u64().unwrap() > 0, "{row}");
        assert!(table.contains(&format!("`{preset}`")), "{table}");
    }
    let mut command = program(&["bench", "paper", "--data", "church256", "--model"]);
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/models/faces64.safetensors");
    fail(&command.arg(model).output().unwrap(), &["faces64.safetensors", "none of the methods"]);
}

#[test]
fn the_program_says_its_version() {
    let said = succeed(&program(&["--version"]).output().unwrap());
    assert_eq!(said.trim(), concat!("lddgan ", env!("CARGO_PKG_VERSION")));
}
