// Bench times brigd against Debian's dockerd and podman, the same docker command against each in turn, on one machine in one run.
// The servers and a registry live in network and mount namespaces made for the run. It prints medians and the ratio to the faster
// of the others; times depend on the machine, the ratio much less so.
//
// BRIG_BENCH_RUNS sets how often a short task is timed (15): pulls of small images half as often, what takes ten seconds a fifth.
// BRIG_BENCH_ONLY is a regular expression: only tasks whose name matches run. Run it from the checkout's top, with the programs in bin/.
//
// "bench serve ADDR" is what the containers of the transfers run.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		fmt.Fprintln(os.Stderr, "bench:", serve(os.Args[2]))
		os.Exit(1)
	}
	code, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 1
	}
	os.Exit(code)
}

// start makes the images, which takes the network, and then the namespaces, which have none.
func start() (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := options()
	if err != nil {
		return 1, err
	}
	if testbed.Inside() {
		return 0, run(ctx, o)
	}
	for name, make := range makers() {
		if !o.needs(name) {
			continue
		}
		if _, err := make(ctx); err != nil {
			return 1, err
		}
	}
	return testbed.Reenter()
}

// opts are what the environment chooses.
type opts struct {
	runs int
	only *regexp.Regexp
}

func options() (o opts, err error) {
	o = opts{runs: 15}
	if s := os.Getenv("BRIG_BENCH_RUNS"); s != "" {
		if o.runs, err = strconv.Atoi(s); err != nil || o.runs < 1 {
			return o, fmt.Errorf("BRIG_BENCH_RUNS=%s: how many runs?", s)
		}
	}
	if o.only, err = regexp.Compile(os.Getenv("BRIG_BENCH_ONLY")); err != nil {
		return o, fmt.Errorf("BRIG_BENCH_ONLY: %w", err)
	}
	return o, nil
}

// needs reports whether one of the chosen tasks uses an image.
func (o opts) needs(image string) bool {
	return image == "busybox" || slices.ContainsFunc(tasks(place{}), func(t task) bool { return t.image == image && o.only.MatchString(t.name) })
}

const cache = ".cache"

// makers make the images by the name that the registry gives them; debian, many and large are kept in .cache.
func makers() map[string]func(ctx context.Context) (v1.Image, error) {
	return map[string]func(ctx context.Context) (v1.Image, error){
		"busybox": func(context.Context) (v1.Image, error) {
			set, err := images.Build()
			if err != nil {
				return nil, err
			}
			return set["busybox:latest"].(v1.Image), nil
		},
		"bench": func(context.Context) (v1.Image, error) {
			info, _ := debug.ReadBuildInfo()
			if info == nil || !slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
				return nil, errors.New("bench runs in containers too, so it must be static: build it with CGO_ENABLED=0")
			}
			self, err := os.Executable()
			if err != nil {
				return nil, err
			}
			return images.Program(self)
		},
		"debian": func(ctx context.Context) (v1.Image, error) { return images.Debian(ctx, cache, os.Stderr) },
		"many":   func(ctx context.Context) (v1.Image, error) { return images.Many(ctx, cache, os.Stderr) },
		"large":  func(ctx context.Context) (v1.Image, error) { return images.Large(ctx, cache, os.Stderr) },
	}
}

// run starts everything and stops it at the end.
func run(ctx context.Context, o opts) (err error) {
	if err := testbed.LoopbackUp(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "brig-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	starting, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	reg, err := testbed.StartRegistry(starting, dir, "", "")
	if err != nil {
		return err
	}
	defer reg.Close()
	set := images.Set{}
	for name, make := range makers() {
		if !o.needs(name) {
			continue
		}
		if set[name+":latest"], err = make(starting); err != nil {
			return err
		}
	}
	if err := set.Push(starting, reg.Addr, nil); err != nil {
		return err
	}
	servers, stop, err := startServers(starting, dir, reg.Addr)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	at := place{registry: reg.Addr, archives: filepath.Join(dir, "archives"), project: filepath.Join(dir, "project"), config: filepath.Join(dir, "compose"), build: filepath.Join(dir, "build")}
	if err := testbed.Compose(cache, at.config); err != nil {
		return err
	}
	if err := errors.Join(writeProject(at), writeBuild(at)); err != nil {
		return err
	}
	if at.near, err = testbed.NewNeighbour(starting); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.near.Close()) }()
	if err := compare(ctx, o, servers, tasks(at)); err != nil || !o.only.MatchString(dnsName) {
		return err
	}
	return dnsUnderChurn(ctx, servers, at.ref("busybox"))
}

// startServers starts brigd, dockerd and podman in this order; stop must be called in any case.
func startServers(ctx context.Context, dir, registry string) (servers []*server, stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for i := len(stops) - 1; i >= 0; i-- {
			errs = append(errs, stops[i]())
		}
		return errors.Join(errs...)
	}
	bin, err := filepath.Abs("bin")
	if err != nil {
		return nil, stop, err
	}
	home := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"b", "d", "p", "archives"} {
		if err := os.Mkdir(home(d), 0o700); err != nil {
			return nil, stop, err
		}
	}
	add := func(name, host string, pids ...int) {
		servers = append(servers, &server{name: name, cli: testbed.CLI{Host: host, Config: home("config")}, pids: pids})
	}
	b := testbed.NewServer(bin, home("b"), "--log-level", "info")
	if err := b.Start(ctx); err != nil {
		return nil, stop, err
	}
	stops = append(stops, b.Stop)
	add("brigd", b.Host, b.Pid())
	d, err := testbed.StartDockerd(ctx, home("d"))
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, d.Close)
	add("dockerd", d.Host, d.Pids()...)
	p, err := testbed.StartPodman(ctx, home("p"), registry)
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, p.Close)
	add("podman", p.Host, p.Pid())
	return servers, stop, nil
}
