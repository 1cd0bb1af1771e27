package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// A tally counts what the tasks came to.
type tally struct {
	mu     sync.Mutex // guards what follows
	done   map[string]int
	cut    map[string]int // failed while brigd was killed or started
	failed []string       // failed for no such reason
	kills  int

	gate sync.RWMutex // held by the killer while brigd is down
	gen  atomic.Int64 // odd while brigd is being killed and started
	n    atomic.Int64 // names tasks
}

// task is one thing that users do; name is for what it makes.
type task func(ctx context.Context, b *bed, name string) error

func tasks() map[string]task {
	return map[string]task{
		"run --rm": func(ctx context.Context, b *bed, name string) error {
			return b.want(ctx, 3, name, "run", "--rm", "--name", name, b.image("busybox"), "sh", "-c", "echo "+name+"; exit 3")
		},
		"run -d, logs -f, wait": following,
		"exec":                  executing,
		"cp":                    copying,
		"pull, rmi": func(ctx context.Context, b *bed, _ string) error {
			if err := b.want(ctx, 0, "", "pull", "-q", b.image("layers")); err != nil {
				return err
			}
			b.cli.Run(ctx, nil, "rmi", b.image("layers")) // another task may have been faster
			return nil
		},
		"volume, commit": committing,
		"networks":       networking,
		"connect":        connecting,
		"ps, stats, df": func(ctx context.Context, b *bed, _ string) error {
			for _, args := range [][]string{{"ps", "-a"}, {"info"}, {"system", "df"}, {"events", "--since", "1m", "--until", "0s"}} {
				if err := b.want(ctx, 0, "", args...); err != nil {
					return err
				}
			}
			b.cli.Run(ctx, nil, "stats", "--no-stream")
			return nil
		},
	}
}

// want runs docker and compares exit code and output.
func (b *bed) want(ctx context.Context, code int, out string, args ...string) error {
	r := b.cli.Run(ctx, nil, args...)
	if r.Code != code || !strings.Contains(r.Out, out) {
		return fmt.Errorf("want exit code %d and %q: %s", code, out, r)
	}
	return nil
}

func following(ctx context.Context, b *bed, name string) error {
	if err := b.want(ctx, 0, "", "run", "-d", "--name", name, "-p", "127.0.0.1::80", b.image("busybox"), "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.1; done; exit 4"); err != nil {
		return err
	}
	if err := b.want(ctx, 0, "line 8", "logs", "-f", name); err != nil {
		return err
	}
	if err := b.want(ctx, 0, "4", "wait", name); err != nil {
		return err
	}
	return b.want(ctx, 0, "", "rm", name)
}

func executing(ctx context.Context, b *bed, name string) error {
	if err := b.want(ctx, 0, "", "run", "-d", "--name", name, "-p", "127.0.0.1::80", b.image("busybox"), "sleep", "600"); err != nil {
		return err
	}
	for range 3 {
		if err := b.want(ctx, 5, "in", "exec", name, "sh", "-c", "echo in; exit 5"); err != nil {
			return err
		}
	}
	if err := b.want(ctx, 0, "", "kill", name); err != nil {
		return err
	}
	return b.want(ctx, 0, "", "rm", "-f", name)
}

func copying(ctx context.Context, b *bed, name string) error {
	dir, err := os.MkdirTemp("", "brig-soak-cp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.WriteFile(from, []byte(strings.Repeat(name, 10000)), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{{"create", "--name", name, b.image("busybox")}, {"cp", from, name + ":/tmp/f"}, {"cp", name + ":/tmp/f", to}, {"rm", name}} {
		if err := b.want(ctx, 0, "", args...); err != nil {
			return err
		}
	}
	back, err := os.ReadFile(to)
	if err == nil && string(back) != strings.Repeat(name, 10000) {
		err = fmt.Errorf("%d bytes came back from the container", len(back))
	}
	return err
}

func committing(ctx context.Context, b *bed, name string) error {
	for _, args := range [][]string{
		{"volume", "create", name}, {"run", "--name", name, "-v", name + ":/v", b.image("busybox"), "sh", "-c", "echo x >/v/x; echo " + name + " >/etc/soak"},
		{"commit", name, "soak" + name}, {"run", "--rm", "soak" + name, "grep", name, "/etc/soak"}, {"rm", name}, {"rmi", "soak" + name}, {"volume", "rm", name},
	} {
		if err := b.want(ctx, 0, "", args...); err != nil {
			return err
		}
	}
	return nil
}

// networking has two containers in a network of their own: the second looks the first up and asks it by its name, and the host asks it by its published port.
func networking(ctx context.Context, b *bed, name string) error {
	server := []string{"run", "-d", "--name", name, "--network", name, "--network-alias", "alias", "-p", "127.0.0.1::80", "-p", "81/udp", b.image("busybox"), "nc", "-ll", "-p", "80", "-e", "echo", name}
	const ask = `nslookup alias && for i in 1 2 3 4 5 6 7 8 9; do nc -w 5 "$0" 80 </dev/null | grep "$0" && exit; sleep 0.2; done; exit 1`
	for _, args := range [][]string{{"network", "create", name}, server, {"run", "--rm", "--name", name + "-b", "--network", name, b.image("busybox"), "sh", "-c", ask, name}} {
		if err := b.want(ctx, 0, "", args...); err != nil {
			return err
		}
	}
	r := b.cli.Run(ctx, nil, "port", name, "80/tcp")
	if r.Code != 0 {
		return errors.New(r.String())
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimSpace(r.Out))
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if said, err := io.ReadAll(c); err != nil || string(said) != name+"\n" {
		return fmt.Errorf("the published port %s says %q: %w", r.Out, said, err)
	}
	for _, args := range [][]string{{"network", "disconnect", "-f", name, name}, {"rm", "-f", name}, {"network", "rm", name}} {
		if err := b.want(ctx, 0, "", args...); err != nil {
			return err
		}
	}
	return nil
}

// connecting moves a running container from the default bridge to a network, where it then has a name.
func connecting(ctx context.Context, b *bed, name string) error {
	for _, args := range [][]string{
		{"network", "create", name}, {"run", "-d", "--name", name, "-p", "127.0.0.1::80", b.image("busybox"), "sleep", "600"},
		{"network", "connect", "--alias", "moved", name, name}, {"exec", name, "nslookup", "moved"}, {"network", "disconnect", "bridge", name},
		{"exec", name, "nslookup", name}, {"port", name}, {"network", "disconnect", name, name}, {"rm", "-f", name}, {"network", "rm", name},
	} {
		if err := b.want(ctx, 0, "", args...); err != nil {
			return err
		}
	}
	return nil
}

// load runs tasks for so long and, unless every is 0, kills brigd that often. It returns when all have ended.
func (b *bed) load(ctx context.Context, length, every time.Duration) error {
	over, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for over.Err() == nil {
				b.one(ctx)
			}
		})
	}
	var err error
	for err == nil && every > 0 && over.Err() == nil {
		select {
		case <-over.Done():
		case <-time.After(every):
			err = b.kill(ctx)
		}
	}
	if err == nil {
		<-over.Done()
	}
	cancel()
	all.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// kill ends brigd without a word and starts it again.
func (b *bed) kill(ctx context.Context) error {
	b.gen.Add(1)
	b.gate.Lock()
	defer b.gate.Unlock()
	b.Kill()
	start, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := b.Start(start)
	b.gen.Add(1)
	b.mu.Lock()
	b.kills++
	b.mu.Unlock()
	return err
}

// one runs a task that chance picks.
func (b *bed) one(ctx context.Context) {
	all := tasks()
	names := slices.Sorted(maps.Keys(all))
	what := names[rand.N(len(names))]
	b.gate.RLock() // brigd is up when a task begins; it may be killed meanwhile
	gen := b.gen.Load()
	b.gate.RUnlock()
	limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	name := fmt.Sprintf("s%d", b.n.Add(1))
	err := all[what](limited, b, name)
	if err != nil && ctx.Err() == nil { // what it was about to remove
		if testbed.Ready(limited, b.Host, nil) == nil {
			b.cli.Run(limited, nil, "rm", "-f", "-v", name, name+"-b")
			b.cli.Run(limited, nil, "volume", "rm", "-f", name)
			b.cli.Run(limited, nil, "network", "rm", name)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done == nil {
		b.done, b.cut = map[string]int{}, map[string]int{}
	}
	switch {
	case err == nil:
		b.done[what]++
	case b.gen.Load() != gen:
		b.cut[what]++
	default:
		b.failed = append(b.failed, what+": "+err.Error())
	}
}

// report prints what the tasks came to; failures are an error.
func (b *bed) report(w io.Writer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(w, "brigd was killed %d times\n%-24s %8s %8s\n", b.kills, "task", "done", "cut")
	for _, name := range slices.Sorted(maps.Keys(tasks())) {
		fmt.Fprintf(w, "%-24s %8d %8d\n", name, b.done[name], b.cut[name])
	}
	if len(b.failed) > 0 {
		return fmt.Errorf("%d tasks failed:\n%s", len(b.failed), strings.Join(b.failed[:min(10, len(b.failed))], "\n"))
	}
	return nil
}
