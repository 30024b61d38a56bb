# The machine needs Python 3.11, git and make. Each target installs what else it needs.
#
#   make say TEXT="Hello." OUT=hello.wav     makes speech of a text, through all three stages
#   make serve                               runs the three stages in one process, until Ctrl-C
#   make test                                runs all tests that need no network and no GPU
#   make check                               checks format, lint, types, imports and protos
#   make coverage                            runs all tests, and prints the coverage of each package
#   make evaluate                            measures the quality of the voice
#   make images                              builds the container images; make test-images also runs them
#
# CONTRIBUTING.md lists the others. Options of `make say`: SPEAKER=1 SEED=7 CONTEXT=dialogue.json MAX_SECONDS=10 for the
# speech; ENCODING=opus RATE=16000 for the file (OUT=hello.ogg implies the encoding); BUNDLE=... for the voice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PROTOS := $(shell find protos -name '*.proto')
STUBS := gen/python/.made
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# The package index of torch; when empty, that of pip's configuration.
TORCH_INDEX ?=

TEXT ?= Hello from the other side.
OUT ?= hello.wav
BUILTIN := bundles/builtin
TINY := build/bundles/tiny
BUNDLE ?= $(BUILTIN)
MAX_SECONDS ?= $(if $(filter $(TINY),$(BUNDLE)),10)
VOICE ?= build/voice
VOICE_BUNDLE ?= $(BUILTIN)
TEXTS ?= 174500
TRACK_TEXTS ?= 6000
HELD_OUT_TEXTS ?= 200
VOICE_DEVICE ?= cpu
DECODER_MINUTES ?= 195
CSM_MINUTES ?= 370
ENCODER_MINUTES ?= 50
ENCODER_TEXTS ?= 800
PYTEST := $(BIN)/python -m pytest
COMPILED := TRITON_INTERPRET=0 $(PYTEST) tests/compiled
# One process more than a small machine has cores, because tests also wait. Tests of compiled kernels do not wait.
TEST_PROCESSES ?= 3
COMPILED_PROCESSES ?= 2
PACKAGES := csm_engine csm_codec csm_bundle csm_text services csm_client
API_IMAGE := protos/api.binpb
ASKED := $(if $(filter $(TINY),$(BUNDLE)),$(TINY)/bundle.json)

.PHONY: say serve test test-compiled images test-images test-cluster test-slow test-gpu test-polyglot test-browser \
	screenshots packages test-packages test-plugins chaos fuzz soak bench bench-gpu kernels gpu-lease gpu-lease-rehearsal \
	wheels voice voice-rehearsal evaluate check coverage format protos protos-freeze lock notices settings-page api-reference \
	clean

say: $(STAMPS)/run $(ASKED)
	@$(BIN)/python -m services.all_in_one.say --bundle '$(BUNDLE)' --text '$(subst ','\'',$(TEXT))' --out '$(OUT)' \
		$(if $(MAX_SECONDS),--max-seconds $(MAX_SECONDS)) $(if $(SPEAKER),--speaker $(SPEAKER)) $(if $(SEED),--seed $(SEED)) \
		$(if $(CONTEXT),--context '$(CONTEXT)') $(if $(ENCODING),--encoding $(ENCODING)) $(if $(RATE),--rate $(RATE))

serve: $(STAMPS)/run $(ASKED)
	@$(BIN)/python -m services.all_in_one --bundle '$(BUNDLE)'

# Each process begins with a fixed part of the tests, so that most shared fixtures are made once, and then takes over tests
# of slower processes. The tests start many processes, so Python may write its bytecode for the next ones.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(STAMPS)/dev
	$(PYTEST) -n $(TEST_PROCESSES) --dist worksteal

# A process interprets Triton's kernels or compiles them, so these are apart. Tests are handed out one by one, because some
# take a tenth of the time.
test-compiled: $(STAMPS)/dev
	$(COMPILED) -n $(COMPILED_PROCESSES) --dist load --maxschedchunk 1 -m 'compiled and not slow'

test-slow: $(STAMPS)/dev
	$(PYTEST) -m 'slow and not compiled'
	$(COMPILED) -m 'compiled and slow'

test-gpu: $(STAMPS)/dev
	TRITON_INTERPRET=0 $(PYTEST) -m gpu

test-polyglot: $(STAMPS)/dev $(TINY)/bundle.json
	cd clients/node && npm ci --no-audit --no-fund
	cd tests/polyglot/openai && npm ci --no-audit --no-fund
	cd tests/polyglot/ai_sdk && npm ci --no-audit --no-fund
	$(PYTEST) -m polyglot

# Tests the page of the HTTP server in each browser that the machine has, and skips the others. Debian's packages: chromium
# chromium-driver; firefox-esr pulseaudio; webkit2gtk-driver xvfb gstreamer1.0-plugins-good gstreamer1.0-libav. With npm,
# axe-core checks accessibility too.
test-browser: $(STAMPS)/dev
	if command -v npm > /dev/null; then cd tests/browser/axe && npm ci --no-audit --no-fund; fi
	$(PYTEST) tests/browser -m browser -rs

# Makes docs/images again: the page of the HTTP server with the built-in voice.
screenshots: $(STAMPS)/dev
	$(BIN)/python -m tests.browser.screenshots

# Faults under running streams (chaos), and malformed requests (fuzz), against real processes. Each takes some minutes; its
# last line is JSON.
chaos: $(STAMPS)/dev $(TINY)/bundle.json
	$(BIN)/python -m bench.chaos --bundle $(TINY) --faults 100 --out bench/results/chaos_tiny_cpu.json

fuzz: $(STAMPS)/dev $(TINY)/bundle.json
	$(BIN)/python -m bench.fuzz --bundle $(TINY) --requests 10000 --out bench/results/fuzz_tiny_cpu.json

# Uses every method for SOAK_MINUTES. Shows whether a process gains memory, files or threads, and whether answers change.
SOAK_MINUTES ?= 60
soak: $(STAMPS)/dev $(TINY)/bundle.json
	$(BIN)/python -m bench.soak --bundle $(TINY) --minutes $(SOAK_MINUTES) --out bench/results/soak_tiny_cpu.json

# Builds the images of docker/*.Dockerfile with Docker or Podman; IMAGES="gateway codec" builds these only. BASE=NAME names
# another base image; BASE=debian makes one from Debian's packages, for machines that reach no registry. PIP_INDEX and
# TORCH_INDEX name package indices.
images: $(STAMPS)/dev
	$(BIN)/python -m recipes.images $(IMAGES) $(if $(BASE),--base $(BASE))

test-images: images
	$(PYTEST) -m images

# Deploys the stages to the cluster of kubectl's context KUBE_CONTEXT, in the namespace csm-test, tests them and deletes the
# namespace. First load the images of `make images` onto its nodes (kind load docker-image, k3s ctr images import, ...).
test-cluster: $(STAMPS)/dev
	CSM_TEST_CONTEXT='$(KUBE_CONTEXT)' $(PYTEST) -m cluster tests/cluster

# Packs the clients into dist/: wheel and source of csm-client, and the npm package (docs/releasing.md).
packages: $(STAMPS)/dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist clients/python
	cd clients/node && npm pack --pack-destination ../../dist

# Installs the wheel into empty environments, with its dependencies from a package index.
test-packages: packages
	$(PYTEST) -m packages

# Tests the plugins of LiveKit Agents and Pipecat, and SDKs that call the HTTP server. They need other versions than the lock
# has, so the tests run in an environment of their own; the server runs in .venv.
PLUGINS := build/plugins
test-plugins: packages
	$(PYTHON) -m venv $(PLUGINS)
	$(PLUGINS)/bin/pip install --quiet --force-reinstall --no-deps dist/csm_client-*.whl
	$(PLUGINS)/bin/pip install --quiet 'csm-client[livekit,pipecat]' pytest pytest-asyncio pytest-timeout \
		-r tests/plugins/openai_sdks/requirements.txt
	CSM_SERVER_PYTHON=$(abspath $(BIN)/python) $(PLUGINS)/bin/python -m pytest -c tests/plugins/pytest.ini \
		--rootdir tests/plugins tests/plugins

# Each benchmark prints a table and one line of JSON; bench/README.md explains them.
bench: $(STAMPS)/dev $(TINY)/bundle.json
	$(BIN)/python -m bench.frame_step --shape tiny --batches 1,16 --threads 1
	$(BIN)/python -m bench.frame_step --shape csm-1b-shallow --batches 1 --frames 3 --rounds 2 --arms reference,ours
	$(BIN)/python -m bench.codec
	$(BIN)/python -m bench.serving --serve --bundle $(BUILTIN) --rates 0.5,1.5 --duration 30

bench-gpu: $(STAMPS)/dev
	$(BIN)/python -m bench.frame_step --shape csm-1b --device cuda --dtype bfloat16 --batches 1 --context 512
	$(BIN)/python -m bench.frame_step --shape csm-1b --device cuda --dtype bfloat16 --batches 1,16,64 --context 512 \
		--arms ours,ours-fused,ours-float8,ours-float8-kv
	for context in 128 512 1024 2040; do \
		$(BIN)/python -m bench.frame_step --shape csm-1b --device cuda --dtype bfloat16 --arms ours --context $$context \
			--batches 1,2,4,8,16,32,64,128,256,512,1024 --frames 50 || exit 1; \
	done
	$(BIN)/python -m bench.codec --shape published --device cuda --dtype bfloat16 --batches 1,16,64,256

# Compiles every Triton kernel for Hopper, in every form and for every batch size, without a GPU. The last line is JSON.
kernels: $(STAMPS)/dev
	TRITON_INTERPRET=0 $(BIN)/python -m bench.kernel_proof

# Measures on a GPU machine that is available for minutes and has neither network nor .venv. First run `make wheels` on a
# machine with a network, and copy the folder .whl to the GPU machine. PARTS=smoke,serving MINUTES=8 choose parts and time.
gpu-lease:
	$(PYTHON) -m bench.lease $(if $(PARTS),--parts $(PARTS)) $(if $(MINUTES),--minutes $(MINUTES))

gpu-lease-rehearsal: $(STAMPS)/dev
	$(BIN)/python -m bench.lease --rehearse --out build/lease-rehearsal

wheels:
	$(PYTHON) -m bench.lease.wheels
	$(PYTHON) -m bench.lease.wheels service

# Makes the built-in voice from nothing, in about nine hours on two CPU cores. VOICE_DEVICE=cuda CSM_MINUTES=9 trains the
# CSM on a GPU. Each part resumes where it was stopped. Needs Debian's packages flite and wordnet-base.
# recipes/builtin_voice/README.md explains the parts.
voice: $(STAMPS)/dev
	$(BIN)/python -m recipes.builtin_voice.texts $(VOICE)/texts-train.txt --texts $(TEXTS)
	$(BIN)/python -m recipes.builtin_voice.texts $(VOICE)/texts-heldout.txt --texts $(HELD_OUT_TEXTS) --split held-out
	$(BIN)/python -m recipes.builtin_voice.tracks $(VOICE)/tracks-train.npz $(VOICE)/texts-train.txt \
		--texts $(TRACK_TEXTS)
	$(BIN)/python -m recipes.builtin_voice.tracks $(VOICE)/tracks-heldout.npz $(VOICE)/texts-heldout.txt
	$(BIN)/python -m recipes.builtin_voice.codec.quantizer $(VOICE)
	$(BIN)/python -m recipes.builtin_voice.csm.turns $(VOICE) --processes 2
	$(BIN)/python -m recipes.builtin_voice.codec.train_decoder $(VOICE) --minutes $(DECODER_MINUTES) & \
		$(BIN)/python -m recipes.builtin_voice.csm.train $(VOICE) --minutes $(CSM_MINUTES) \
		--device $(VOICE_DEVICE) && wait $$!
	$(BIN)/python -m recipes.builtin_voice.codec.train_encoder $(VOICE) --minutes $(ENCODER_MINUTES) \
		--texts $(ENCODER_TEXTS)
	$(BIN)/python -m recipes.builtin_voice.bundle $(VOICE) $(VOICE_BUNDLE)

# Runs the whole recipe in a few minutes, with too little data and training for intelligible speech.
REHEARSAL := build/rehearsal
voice-rehearsal:
	rm -rf $(REHEARSAL)
	mkdir -p $(REHEARSAL)/bundle
	cp -r $(BUILTIN)/silentcipher $(REHEARSAL)/bundle
	$(MAKE) voice VOICE=$(REHEARSAL) VOICE_BUNDLE=$(REHEARSAL)/bundle TEXTS=200 TRACK_TEXTS=100 \
		HELD_OUT_TEXTS=20 DECODER_MINUTES=1 CSM_MINUTES=2 ENCODER_MINUTES=1 ENCODER_TEXTS=40
	$(MAKE) say BUNDLE=$(REHEARSAL)/bundle OUT=$(REHEARSAL)/hello.wav MAX_SECONDS=3

evaluate: $(STAMPS)/dev $(ASKED)
	$(BIN)/python -m recipes.builtin_voice.evaluation.words $(BUNDLE) --cache build/heard \
		--json bench/results/builtin_voice_words.json
	$(BIN)/python -m recipes.builtin_voice.evaluation $(BUNDLE) --json bench/results/builtin_voice.json
	$(BIN)/python -m recipes.builtin_voice.evaluation.mark $(BUNDLE) --json bench/results/builtin_voice_mark.json

check: $(STAMPS)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf format protos --diff --exit-code
	$(BIN)/buf breaking protos --against $(API_IMAGE)

# Not part of `make test`, because measuring makes the tests 12 % slower.
coverage: $(STAMPS)/dev
	$(PYTEST) $(addprefix --cov=,$(PACKAGES)) --cov-report=
	@for package in $(PACKAGES); do \
		printf '%-12s %4s %%\n' $$package "$$($(BIN)/coverage report --include="**/$$package/**" --format=total)"; \
	done

format: $(STAMPS)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format protos --write

protos: $(STUBS)

# Run this at a release only. It freezes the API: `make check` compares later changes with it.
protos-freeze: $(STAMPS)/dev
	$(BIN)/buf build protos --exclude-source-info -o $(API_IMAGE)

# Makes the tiny bundle for tests and benchmarks: seeded random weights in the real file formats.
$(TINY)/bundle.json: $(STAMPS)/run $(wildcard tests/support/tiny/*.py) $(wildcard bundles/builtin/silentcipher/*)
	@echo "making the tiny bundle in $(TINY) (untrained: it sounds like noise)"
	@$(BIN)/python -m tests.support.tiny.bundle $(TINY)

# The pins of some packages contradict the lock, so every package except torch is installed without its dependencies.
$(STAMPS)/venv:
	@echo "setting up $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/torch: $(STAMPS)/venv
	@echo "installing torch (a few minutes)$(if $(TORCH_INDEX),,; PyPI's for Linux brings NVIDIA's libraries: several GB. README.md: TORCH_INDEX)"
	@$(PIP) $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') torch==2.13.0
	@touch $@

$(STAMPS)/packages: requirements/all_in_one.txt $(STAMPS)/torch
	@echo "installing the other packages (a few minutes)"
	@$(PIP) --no-deps -r requirements/all_in_one.txt
	@touch $@

# The stamp lies beside the stubs, so that deleting gen makes them again.
$(STUBS): $(PROTOS) $(STAMPS)/packages
	@mkdir -p gen/python
	@$(BIN)/python -m grpc_tools.protoc -I protos --python_out=gen/python --pyi_out=gen/python \
		--grpc_python_out=gen/python $(PROTOS)
	@touch $@

$(STAMPS)/run: pyproject.toml $(STUBS)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/run
	@echo "installing the packages of tests and checks"
	@$(PIP) --no-deps -r requirements/dev.txt
	@touch $@

lock: $(STAMPS)/venv
	@$(PIP) uv
	@PATH="$(abspath $(BIN)):$$PATH" requirements/lock.sh

# Run this after `make lock`. It writes the licences of the locked packages into THIRD_PARTY_NOTICES.md.
notices: $(STAMPS)/dev
	$(BIN)/python requirements/notices.py

# Run this after a change of a setting. It writes docs/settings.md.
settings-page: $(STAMPS)/dev
	$(BIN)/python docs/settings_page.py

# Makes the reference of the public API from the protos and their comments: build/api-reference/html/index.html.
api-reference: $(STAMPS)/dev
	@mkdir -p build/api-reference
	@cd protos && ../$(BIN)/python -m grpc_tools.protoc -I . --include_source_info \
		-o ../build/api-reference/descriptor.pb csm/v1/*.proto csm/rvq/v1/*.proto
	@cd docs/api-reference && ../../$(BIN)/sabledocs

clean:
	rm -rf $(VENV) build dist gen clients/node/node_modules clients/node/protos *.egg-info
