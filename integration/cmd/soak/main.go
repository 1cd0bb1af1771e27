// Soak puts a brigd of its own under mixed load, kills it every 30 seconds but in the last third or five minutes of the time, when it leaves
// it alone. In the end all that the load made is removed, and what brigd and the host have is compared with what they had in the beginning: descriptors,
// goroutines, memory, processes, links, bridges, namespaces, mounts, cgroups, rules and what is stored. It prints a table and ends with exit code
// 1 if something has grown, or if something failed that no kill explains.
//
// SOAK is how long, as Go writes durations (default 1m). Run it from the checkout's top, as root, with the programs in bin/.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

// workers is how many tasks run at once.
const workers = 6

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := soak(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func soak(ctx context.Context) (err error) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("SOAK"), "1m"))
	if err != nil {
		return fmt.Errorf("SOAK: %w", err)
	}
	dir, err := os.MkdirTemp("", "brig-soak-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, closeBed, err := newBed(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBed()) }()
	if err := b.load(ctx, 10*time.Second, 0); err != nil { // what is made once and stays
		return err
	}
	before, err := b.rested(ctx, nil)
	if err != nil {
		return err
	}
	killed := length - min(length/3, 5*time.Minute)
	if err := b.load(ctx, killed, 30*time.Second); err != nil {
		return err
	}
	if err := b.load(ctx, length-killed, 0); err != nil {
		return err
	}
	after, err := b.rested(ctx, before)
	if err != nil {
		return err
	}
	return errors.Join(b.report(os.Stdout), compare(os.Stdout, before, after))
}

// A bed is the brigd under load.
type bed struct {
	*testbed.Server
	cli testbed.CLI
	reg string
	tally
}

// newBed starts a registry and a brigd in dir; the caller calls stop.
func newBed(ctx context.Context, dir string) (_ *bed, stop func() error, err error) {
	reg, err := testbed.StartRegistry(ctx, dir, "", "")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			reg.Close()
		}
	}()
	set, err := images.Build()
	if err != nil {
		return nil, nil, err
	}
	if err = set.Push(ctx, reg.Addr, nil); err != nil {
		return nil, nil, err
	}
	bin, err := filepath.Abs("bin")
	if err != nil {
		return nil, nil, err
	}
	home := filepath.Join(dir, "b")
	if err = os.Mkdir(home, 0o700); err != nil {
		return nil, nil, err
	}
	b := &bed{Server: testbed.NewServer(bin, home, "--log-level", "info"), reg: reg.Addr}
	b.cli = testbed.CLI{Host: b.Host, Config: filepath.Join(dir, "config")}
	if err = b.Start(ctx); err != nil {
		return nil, nil, err
	}
	stop = func() error {
		defer reg.Close()
		end, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		b.drain(end)
		if err := b.Stop(); err != nil {
			return err
		}
		if left, err := b.Leftovers(true); err != nil || len(left) > 0 {
			return errors.Join(err, fmt.Errorf("brigd left on the host:\n%s", strings.Join(left, "\n")))
		}
		return nil
	}
	if r := b.cli.Run(ctx, nil, "pull", "-q", b.image("busybox")); r.Code != 0 {
		return nil, nil, errors.Join(errors.New(r.String()), stop())
	}
	return b, stop, nil
}

func (b *bed) image(name string) string { return b.reg + "/" + name }

// drain removes all containers, networks, volumes, and all images but busybox.
func (b *bed) drain(ctx context.Context) error {
	for _, step := range [][2][]string{
		{{"ps", "-aq"}, {"rm", "-f", "-v"}}, {{"network", "ls", "-q", "--filter", "type=custom"}, {"network", "rm"}}, {{"volume", "ls", "-q"}, {"volume", "rm"}},
		{{"images", "-q", "--filter", "reference=*/layers", "--filter", "reference=soak*"}, {"rmi", "-f"}},
	} {
		if ids := strings.Fields(b.cli.Run(ctx, nil, step[0]...).Out); len(ids) > 0 {
			if r := b.cli.Run(ctx, nil, append(step[1], ids...)...); r.Code != 0 && !strings.Contains(r.Err, "No such") {
				return errors.New(r.String())
			}
		}
	}
	return nil
}
