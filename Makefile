# make demo: see it work. make test: prove it. Both install what they lack (root, Debian or FreeBSD).
export CGO_ENABLED := 0
GO       ?= go
# Clients parse it: semantic versioning, with the commit as build metadata.
VERSION  := 0.1.0+$(shell git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
PROGRAMS := brigd brig brig-shim brig-net brig-mds
export BIN := bin
# OS=freebsd on another system builds FreeBSD's programs, apart from this one's.
ifneq ($(OS),)
export GOOS := $(OS)
BIN := bin/$(OS)
endif
ifeq ($(or $(OS),$(shell $(GO) env GOOS)),freebsd)
PROGRAMS += brig-jail
endif
PORTS    := linux/amd64 linux/arm64 freebsd/amd64 freebsd/arm64
UNIT      = $(shell $(GO) list ./... | grep -v '/integration')

.PHONY: images install uninstall plist compose faults soak all deps deps-peers build check unit oracle integration test demo bench compare peers test-buildx test-zfs test-freebsd freebsd-guest fuzz clean

all: build

deps:
	@contrib/deps.sh

deps-peers:
	@contrib/deps.sh peers

build:
	@mkdir -p $(BIN)
	@for p in $(PROGRAMS); do $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/$$p ./cmd/$$p || exit 1; done

check:
	@test -z "$$(gofmt -l cmd $$($(GO) list -f '{{.Dir}}' ./...) | tee /dev/stderr)"
	GOOS=linux $(GO) vet ./...
	GOOS=freebsd $(GO) vet ./...
	@for p in $(PORTS); do echo "build $$p"; GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build ./... || exit 1; done
	$(GO) test ./internal/arch/

unit:
	$(GO) test -timeout 10m $(UNIT)
	$(GO) test -timeout 5m -tags faults -run Killed ./zfsstore/

# DESTDIR, PREFIX (/usr/local) and OS (freebsd or linux, this one's) choose; contrib/install.sh has the list.
install: build
	@contrib/install.sh install

uninstall:
	@contrib/install.sh uninstall

plist:
	@contrib/install.sh plist

# A nested module: docker2aci needs an image-spec that nothing else here can live with.
oracle:
	@! test -f integration/docker2aci/go.mod || (cd integration/docker2aci && $(GO) test -timeout 5m ./...)

integration: build
	$(GO) test -count=1 -p 1 -timeout 25m ./integration/...

test: deps check unit oracle integration

demo: deps build
	@$(GO) run ./integration/cmd/demo

# The example images, IMAGES='showenv nginx' chooses, in Jetpack's way on the brigd at BRIG_HOST; BASE is an image there with busybox in it.
images: build
	@BASE='$(BASE)' images/build.sh $(IMAGES)

bench: deps deps-peers build
	@$(GO) run ./integration/cmd/bench

# brigd killed at every point of every act, not only in the first one that passes it.
faults: deps build
	BRIG_FAULTS=all $(GO) test -count=1 -timeout 60m -run 'Killed' ./integration/

# Mixed load for SOAK=DURATION while brigd is killed every 30 seconds; fails if anything is left.
SOAK ?= 1m
soak: deps build
	@SOAK=$(SOAK) nice -n 10 $(GO) run ./integration/cmd/soak

# appc's validator again and again, ROUNDS times, while OTHERS containers start and stop.
ROUNDS ?= 20
OTHERS ?= 50
ace: deps build
	BRIG_ACE_ROUNDS=$(ROUNDS) BRIG_ACE_OTHERS=$(OTHERS) $(GO) test -count=1 -timeout 60m -v -run 'TestACE' ./integration/

# The projects of docker compose alone. RUN=NAME chooses.
compose: deps build
	$(GO) test -count=1 -timeout 15m -run 'TestProjects/$(RUN)' ./integration/compose/

# The same suites against Debian's dockerd, in a network namespace of its own.
compare: deps deps-peers
	$(GO) run ./integration/cmd/mkimage -services .cache
	$(GO) run ./integration/cmd/compare $(GO) test -count=1 -p 1 -timeout 40m ./integration/ ./integration/compose/

# docker buildx with a builder in a container of brig's. The first time builds buildx and BuildKit from the module proxy, some minutes.
test-buildx: deps build
	@contrib/deps.sh buildx
	BRIG_TEST_BUILDX=1 $(GO) test -count=1 -timeout 10m -v -run 'TestBuildx' ./integration/

# Images to and from Debian's dockerd, podman and skopeo, through a registry and through archives, in a network namespace of its own.
peers: deps deps-peers build
	BRIG_TEST_PEERS=1 $(GO) test -count=1 -timeout 10m ./integration/peers/

# Unit tests and the integration suite on a FreeBSD machine: HOST=root@machine, with SSH='ssh -p …' where it takes more; on FreeBSD itself without.
# RUN=PATTERN is go test's -run, PKGS='./a ./b' chooses packages, SLOW=10 gives an emulated machine ten times as long.
ifeq ($(shell $(GO) env GOOS),freebsd)
test-freebsd: deps build
endif
test-freebsd:
	@GO='$(GO)' HOST='$(HOST)' RUN='$(RUN)' SLOW='$(SLOW)' contrib/freebsd/test.sh $(PKGS)

# A FreeBSD 13.2 machine for QEMU, out of SRC=, FreeBSD's sources, in OUT= (.cache/freebsd-guest). contrib/freebsd/guest/run.sh boots it.
freebsd-guest:
	@contrib/deps.sh freebsd-guest
	@SRC='$(SRC)' OUT='$(OUT)' GO='$(GO)' contrib/freebsd/guest/build.sh

# zfsstore's suite on real OpenZFS, in a virtual machine. RUN=PATTERN is go test's -run. The first time builds the machine.
test-zfs: deps
	@contrib/deps.sh zfs
	@RUN='$(RUN)' GO='$(GO)' contrib/zfs-guest/run.sh .cache/zfs-guest

FUZZTIME ?= 20s
fuzz:
	@$(GO) list -f '{{.Dir}}' ./... | while read -r d; do \
	  grep -ho 'func Fuzz[A-Za-z0-9_]*' "$$d"/*_test.go 2>/dev/null | sed 's/func //' | while read -r f; do \
	    (cd "$$d" && $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x .) </dev/null || exit 1; done || exit 1; done

clean:
	rm -rf bin
	rm -f *.test
