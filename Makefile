# The commands of the project. `make` alone lists them; .ci/run says which of them CI calls.

# The tools, pinned. CLAUDE is agentrun.Pinned and agentrun/cli/package.json too; a test compares them.
CLAUDE   := 2.1.330
BOLT     := 5.1.0
GOLANGCI := 2.15.0
# program:package; gcc is for the race detector, perl forks in a test of the stop, those after it are for the QEMU lab and its guest.
DEBIAN   := ssh:openssh-client sshd:openssh-server tmux:tmux gcc:gcc perl:perl \
            qemu-system-x86_64:qemu-system-x86 busybox:busybox-static mkfs.ext4:e2fsprogs xz:xz-utils ps:procps lsof:lsof
# What draws the pictures of Slack; a font is no program, so its file is named.
DRAWING  := chromium:chromium pngquant:pngquant /usr/share/fonts/truetype/lato/Lato-Regular.ttf:fonts-lato \
            /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf:fonts-noto-color-emoji

CACHE    := $(CURDIR)/.cache
CLI_DIR  := $(CACHE)/claude-$(CLAUDE)
CLI      := $(CLI_DIR)/node_modules/.bin/claude
BOLT_DIR := $(CACHE)/bolt-$(BOLT)
SCREENS  := $(CACHE)/screens
GUEST    := $(CACHE)/guest
LINTER   := $(CACHE)/bin/golangci-lint
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO_BUILD := CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
# Not vet as well: make lint runs it, and here it would check every package with all that it imports once more.
TEST     := go test -race -vet=off
REAL_VM  := OnARealVM
ON_SLACK := OnSlack
SAMPLING := ./cmd/bgbot ./internal/lab
STORMS   := Soak|Reconnects
BENCHES   = $(shell grep -rl --include='*_test.go' '^func Benchmark' . | xargs -r -n1 dirname | sort -u)

# Children that re-execute a -race binary would sleep a second each at their exit.
export GORACE := atexit_sleep_ms=0

.DEFAULT_GOAL := help
.PHONY: help drill drills test stories lint fmt bench screens build deps clean cli bolt debian guest linter

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

drill: cli guest build ## live through a practice incident in this terminal
	@./bin/bgbot drill

test: cli bolt guest ## the tests, with race detector, real claude CLI, real sshd and real store; some minutes
	BGBOT_CLAUDE=$(CLI) $(TEST) -timeout 600s -skip '$(REAL_VM)|$(ON_SLACK)' ./...

stories: cli ## tell every story of the console in a Slack workspace as well
	BGBOT_CLAUDE=$(CLI) $(TEST) -timeout 900s -run $(ON_SLACK) ./cmd/bgbot

# A real VM is emulated and takes a core, so these have the machine for themselves, at most two VMs at once.
drills: cli guest build ## what may befall a real VM in a real QEMU, and each practice incident from the command line to the score
	$(TEST) -timeout 900s -run $(REAL_VM) ./internal/lab
	BGBOT_CLAUDE=$(CLI) go test -vet=off -timeout 900s -run $(REAL_VM) -v ./cmd/bgbot

lint: linter ## golangci-lint, gofumpt and goimports included
	$(LINTER) run ./...

fmt: linter ## format the code
	$(LINTER) fmt ./...

bench: cli guest build ## print the numbers that the design promises, a quarter of an hour
	BGBOT_CLAUDE=$(CLI) go test -p 1 -run '^$$' -bench . -benchtime 1x $(SAMPLING)
	go test -run '^$$' -bench '$(STORMS)' -benchtime 1x ./bot/slack
	BGBOT_CLAUDE=$(CLI) go test -p 1 -run '^$$' -bench . -skip '$(STORMS)' -benchtime 10x $(filter-out $(SAMPLING),$(BENCHES))

screens: DEBIAN += $(DRAWING)
screens: cli debian ## draw docs/screens/slack-*.png: a practice incident as a phone shows it in Slack
	@mkdir -p $(SCREENS) && cp -p docs/screens/blockkit/* $(SCREENS)/
	BGBOT_CLAUDE=$(CLI) go test -count=1 -run TestStoriesOfSlack/incident ./cmd/bgbot -args -dump $(SCREENS)
	@cd $(SCREENS) && if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; fi
	node $(SCREENS)/draw.mjs $(SCREENS) docs/screens
	pngquant --force --skip-if-larger --ext .png --quality 60-90 docs/screens/slack-*.png

build: ## bin/bgbot and bin/pve-gate-linux-*, static
	@$(GO_BUILD) -o bin/bgbot ./cmd/bgbot
	@for arch in amd64 arm64; do GOOS=linux GOARCH=$$arch $(GO_BUILD) -o bin/pve-gate-linux-$$arch ./cmd/pve-gate || exit 1; done
	@echo "build: bin/bgbot and bin/pve-gate-linux-amd64, -arm64 are $(VERSION)"

deps: cli bolt guest linter ## install what is missing: the claude CLI, Slack's SDK, Debian packages, the QEMU lab's guest, the linter

clean: ## remove what build made; .cache stays
	rm -rf bin coverage.out

# npm's own scripts are a matter of its version and settings, so the one step that matters, putting the native program
# in its place, is run by name. The lock file holds the integrity hash of every package.
cli:
	@if [ "$$($(CLI) --version 2>/dev/null | cut -d' ' -f1)" = $(CLAUDE) ]; then \
		echo "deps: claude $(CLAUDE) is there"; \
	else \
		command -v npm >/dev/null || { echo "deps: npm is missing; install Node.js 20 or later with npm, then run make again"; exit 1; }; \
		echo "deps: installing claude $(CLAUDE) into .cache (about 400 MB)"; \
		mkdir -p $(CLI_DIR) && cp agentrun/cli/package.json agentrun/cli/package-lock.json $(CLI_DIR)/ && \
		cd $(CLI_DIR) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && \
		node node_modules/@anthropic-ai/claude-code/install.cjs && \
		echo "deps: claude $$($(CLI) --version) is installed"; \
	fi

# Slack's own SDK runs against our stand-in of Slack in a test, so that the stand-in is not only our opinion.
bolt:
	@if [ -d $(BOLT_DIR)/node_modules/@slack/bolt ]; then \
		echo "deps: bolt $(BOLT) is there"; \
	else \
		command -v npm >/dev/null || { echo "deps: npm is missing; install Node.js 20 or later with npm, then run make again"; exit 1; }; \
		echo "deps: installing bolt $(BOLT) into .cache (22 MB)"; \
		mkdir -p $(BOLT_DIR) && cp internal/slacktest/bolt/package.json internal/slacktest/bolt/package-lock.json $(BOLT_DIR)/ && \
		cd $(BOLT_DIR) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; \
	fi

debian:
	@PATH="$$PATH:/usr/sbin"; missing=; \
	for pair in $(DEBIAN); do { command -v $${pair%:*} >/dev/null || [ -e $${pair%:*} ]; } || missing="$$missing $${pair#*:}"; done; \
	case "$$missing" in *gcc*) missing="$$missing libc6-dev";; esac; \
	if [ -z "$$missing" ]; then \
		echo "deps: $(foreach pair,$(DEBIAN),$(firstword $(subst :, ,$(pair)))) are there"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "deps: installing$$missing with apt-get"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else \
		echo "deps: missing:$$missing. Tests need them; on Debian: sudo apt-get install$$missing"; \
	fi

# The guest's kernel and agent are downloaded and never installed; internal/lab/image makes the guest of them. APT::Sandbox:
# apt's own user cannot write here.
guest: debian
	@mkdir -p $(GUEST) && cd $(GUEST) || exit 1; \
	kernel() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-/ {print $$2; exit}'; }; \
	if ls linux-image-*-cloud-amd64_*.deb qemu-guest-agent_*.deb >/dev/null 2>&1; then \
		echo "deps: the packages of the QEMU lab's guest are there"; \
	else \
		if [ -z "$$(kernel)" ] && [ "$$(id -u)" = 0 ]; then apt-get update -qq; fi; \
		echo "deps: downloading the QEMU lab's guest into .cache/guest (27 MB): $$(kernel) qemu-guest-agent"; \
		if [ -z "$$(kernel)" ] || ! apt-get download -qq -o APT::Sandbox::User= $$(kernel) qemu-guest-agent; then \
			echo "deps: missing: the packages linux-image-cloud-amd64 and qemu-guest-agent; on Debian: sudo apt-get update, then run make again"; \
		fi; \
	fi

linter:
	@if $(LINTER) version 2>/dev/null | grep -qF ' $(GOLANGCI) '; then \
		echo "deps: golangci-lint $(GOLANGCI) is there"; \
	else \
		echo "deps: building golangci-lint $(GOLANGCI) into .cache (some minutes, once)"; \
		GOBIN=$(CACHE)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(GOLANGCI); \
	fi
