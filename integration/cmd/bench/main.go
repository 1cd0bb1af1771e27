// Bench times brigd against Debian's dockerd, the same docker command against each in turn, on one machine in one run. Both servers
// and a registry live in network and mount namespaces made for the run. It prints medians and their ratio; these depend on the machine,
// the ratio much less so. BRIG_BENCH_RUNS sets how often each is timed (15).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

func main() {
	if !testbed.Inside() {
		code, err := testbed.Reenter()
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A task is one docker command and what has to be done before and after it, untimed.
type task struct {
	name          string
	before, after []string
	args          []string
}

func tasks(busybox, debian string) []task {
	const name = "brig-bench"
	create := []string{"create", "--name", name, busybox, "sleep", "600"}
	runs := []string{"run", "-d", "--name", name, busybox, "sleep", "600"}
	remove := []string{"rm", "-f", name}
	return []task{
		{name: "run --rm IMAGE true", args: []string{"run", "--rm", busybox, "true"}},
		{name: "run --rm --network none IMAGE true", args: []string{"run", "--rm", "--network", "none", busybox, "true"}},
		{name: "create", args: create, after: remove},
		{name: "start", before: create, args: []string{"start", name}, after: remove},
		{name: "exec true", before: runs, args: []string{"exec", name, "true"}, after: remove},
		{name: "rm -f of a running one", before: runs, args: remove},
		{name: "pull debian, cold", args: []string{"pull", "-q", debian}, after: []string{"rmi", debian}},
	}
}

func run(ctx context.Context) (err error) {
	if err := testbed.LoopbackUp(); err != nil {
		return err
	}
	runs := 15
	if s := os.Getenv("BRIG_BENCH_RUNS"); s != "" {
		if runs, err = strconv.Atoi(s); err != nil || runs < 1 {
			return fmt.Errorf("BRIG_BENCH_RUNS=%s: how many runs?", s)
		}
	}
	dir, err := os.MkdirTemp("", "brig-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	starting, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	reg, err := testbed.StartRegistry(starting, dir, "", "")
	if err != nil {
		return err
	}
	defer reg.Close()
	if err := push(starting, reg.Addr); err != nil {
		return err
	}
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	brigDir, dockerDir := filepath.Join(dir, "b"), filepath.Join(dir, "d")
	if err := errors.Join(os.Mkdir(brigDir, 0o700), os.Mkdir(dockerDir, 0o700)); err != nil {
		return err
	}
	b := testbed.NewServer(bin, brigDir, "--log-level", "info")
	if err := b.Start(starting); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Stop()) }()
	d, err := testbed.StartDockerd(starting, dockerDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	config := filepath.Join(dir, "config")
	return compare(ctx, runs, reg.Addr, testbed.CLI{Host: b.Host, Config: config}, testbed.CLI{Host: d.Host, Config: config})
}

func push(ctx context.Context, addr string) error {
	set, err := images.Build()
	if err != nil {
		return err
	}
	set = images.Set{"busybox:latest": set["busybox:latest"]}
	if set["debian:latest"], err = images.Debian(ctx, ".cache", os.Stderr); err != nil {
		return err
	}
	return set.Push(ctx, addr, nil)
}

// compare times every task on both servers in turn: brigd, dockerd, brigd, … after one round that isn't counted.
func compare(ctx context.Context, runs int, registry string, brigd, dockerd testbed.CLI) error {
	busybox, debian := registry+"/busybox:latest", registry+"/debian:latest"
	for _, cli := range []testbed.CLI{brigd, dockerd} {
		if r := cli.Run(ctx, nil, "pull", "-q", busybox); r.Code != 0 {
			return errors.New(r.String())
		}
	}
	floor, err := median(runs, func() (time.Duration, error) { return timed(ctx, brigd, task{args: []string{"--version"}}) })
	if err != nil {
		return err
	}
	fmt.Printf("medians of %d runs, docker --version alone %v\n\n", runs, floor.Round(100*time.Microsecond))
	fmt.Printf("| docker … | brigd | dockerd | ratio | ratio without the command's own time |\n|---|---|---|---|---|\n")
	for _, t := range tasks(busybox, debian) {
		var mine, theirs []time.Duration
		for i := range runs + 1 {
			a, err := timed(ctx, brigd, t)
			if err != nil {
				return fmt.Errorf("brigd: %w", err)
			}
			b, err := timed(ctx, dockerd, t)
			if err != nil {
				return fmt.Errorf("dockerd: %w", err)
			}
			if i > 0 {
				mine, theirs = append(mine, a), append(theirs, b)
			}
		}
		slices.Sort(mine)
		slices.Sort(theirs)
		a, b := mine[runs/2], theirs[runs/2]
		fmt.Printf("| %s | %v | %v | %.2f | %.2f |\n", t.name, a.Round(100*time.Microsecond), b.Round(100*time.Microsecond),
			float64(a)/float64(b), float64(a-floor)/float64(b-floor))
	}
	return nil
}

// timed runs a task once and returns how long its command took.
func timed(ctx context.Context, cli testbed.CLI, t task) (time.Duration, error) {
	if t.before != nil {
		if r := cli.Run(ctx, nil, t.before...); r.Code != 0 {
			return 0, errors.New(r.String())
		}
	}
	begin := time.Now()
	r := cli.Run(ctx, nil, t.args...)
	took := time.Since(begin)
	if r.Code != 0 {
		return 0, errors.New(r.String())
	}
	if t.after != nil {
		if r := cli.Run(ctx, nil, t.after...); r.Code != 0 {
			return 0, errors.New(r.String())
		}
	}
	return took, nil
}

func median(n int, once func() (time.Duration, error)) (time.Duration, error) {
	var all []time.Duration
	for range n {
		d, err := once()
		if err != nil {
			return 0, err
		}
		all = append(all, d)
	}
	slices.Sort(all)
	return all[n/2], nil
}
