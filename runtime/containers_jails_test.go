package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

type jailSeam brigd

func (b *jailSeam) Create(_ context.Context, j *brig.Jail) (*brig.Handle, []string, error) {
	if err := (*brigd)(b).step("create jail"); err != nil {
		return nil, nil, err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.pid++
	h := &brig.Handle{Version: 1, JailID: fmt.Sprintf("j%d", b.pid), Dir: j.Dir}
	b.jails[h.JailID] = &proc{jail: j, done: make(chan struct{})}
	return h, nil, nil
}

func (b *jailSeam) Adopt(_ context.Context, h *brig.Handle) (bool, *brig.Exit, error) {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	p := b.jails[h.JailID]
	if p == nil {
		return false, nil, nil
	}
	return p.exit == nil, p.exit, nil
}

func (b *jailSeam) Destroy(_ context.Context, h *brig.Handle) error {
	if err := (*brigd)(b).step("destroy jail"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.endJail(h.JailID)
	return os.RemoveAll(h.Dir)
}

// endJail kills a jail's process and forgets the jail. The caller holds mu.
func (w *world) endJail(jail string) {
	if p := w.jails[jail]; p != nil {
		p.finish(137)
		delete(w.jails, jail)
	}
}

func (b *jailSeam) Sweep(_ context.Context, live []*brig.Handle) error {
	if b.world.onSweep != nil {
		b.world.onSweep()
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	dirs := map[string]bool{}
	for _, h := range live {
		dirs[filepath.Base(h.Dir)] = true
	}
	for id := range b.jails {
		if !slices.ContainsFunc(live, func(h *brig.Handle) bool { return h.JailID == id }) {
			b.endJail(id)
		}
	}
	list, _ := os.ReadDir(filepath.Join(b.root, "run"))
	for _, d := range list {
		if !dirs[d.Name()] {
			os.RemoveAll(filepath.Join(b.root, "run", d.Name()))
		}
	}
	return nil
}

func (b *jailSeam) Expect() {}

func (b *jailSeam) Warnings(s *brig.Spec) []string {
	if s.Privileged {
		return []string{"no privileges here"}
	}
	return nil
}

func (b *jailSeam) Pids(context.Context, *brig.Handle) ([]int, error) { return []int{os.Getpid()}, nil }

type procSeam brigd

// finish ends the process. The caller holds the world's mu.
func (p *proc) finish(code int) {
	if p.exit == nil {
		p.exit = &brig.Exit{Code: code, Time: time.Now().UTC()}
		close(p.done)
	}
}

func (b *procSeam) Start(_ context.Context, h *brig.Handle) error {
	if err := (*brigd)(b).step("start"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	p := b.jails[h.JailID]
	args := p.jail.Args
	switch args[0] {
	case "nosuch":
		return errs.New(errs.Invalid, "exec: \"nosuch\": executable file not found in $PATH")
	case "denied":
		return errs.New(errs.Invalid, "exec: \"denied\": permission denied")
	case "broken":
		return errors.New("the host is out of order")
	}
	b.pid++
	h.InitPID, p.started = b.pid, true
	b.started = append(b.started, strings.Join(args, " "))
	switch args[0] {
	case "echo":
		for _, io := range p.ios {
			fmt.Fprintln(io.Stdout, strings.Join(args[1:], " "))
		}
		p.finish(0)
	case "true":
		p.finish(0)
	case "fail":
		for _, io := range p.ios {
			fmt.Fprintln(io.Stderr, strings.Join(args[1:], " "))
		}
		p.finish(1)
	case "false":
		p.finish(1)
	}
	return nil
}

func (b *procSeam) Exec(_ context.Context, h *brig.Handle, j *brig.Jail, id brig.ID, spec brig.ExecSpec, io brig.IO) (int, <-chan brig.Exit, error) {
	if io.Attached != nil {
		io.Attached()
	}
	if j.ID == "" || j.Root == "" {
		return 0, nil, errors.New("incomplete jail")
	}
	done := make(chan brig.Exit, 1)
	switch spec.Args[0] {
	case "nosuch":
		return 0, nil, errs.New(errs.Invalid, "exec: \"nosuch\": executable file not found in $PATH")
	case "cat": // ends with its input
		go func() {
			buf := make([]byte, 100)
			for {
				n, err := io.Stdin.Read(buf)
				io.Stdout.Write(buf[:n])
				if errors.Is(err, brig.ErrDetached) {
					return // the process goes on, nobody attached
				}
				if err != nil {
					done <- brig.Exit{Code: 3}
					return
				}
			}
		}()
	case "probe": // as the world says
		b.world.mu.Lock()
		defer b.world.mu.Unlock()
		io.Stdout.Write([]byte(b.symptom))
		b.probes++
		if b.sick < 0 { // until it is killed
			b.hung[id] = done
			break
		}
		done <- brig.Exit{Code: b.sick}
	default:
		done <- brig.Exit{Code: 0}
	}
	return 77, done, nil
}

func (b *procSeam) Attach(ctx context.Context, h *brig.Handle, io brig.IO) error {
	b.world.mu.Lock()
	p := b.jails[h.JailID]
	if p == nil || p.exit != nil {
		b.world.mu.Unlock()
		return nil
	}
	p.ios = append(p.ios, io)
	b.world.mu.Unlock()
	if io.Attached != nil {
		io.Attached()
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *procSeam) Signal(_ context.Context, h *brig.Handle, exec brig.ID, sig int) error {
	if err := (*brigd)(b).step("signal"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if exec != "" {
		done := b.hung[exec]
		if done == nil {
			return errs.New(errs.NotFound, "no such process")
		}
		delete(b.hung, exec)
		done <- brig.Exit{Code: 128 + sig}
		return nil
	}
	p := b.jails[h.JailID]
	if p == nil || p.exit != nil {
		return errs.New(errs.NotFound, "no such process")
	}
	p.signals = append(p.signals, sig)
	if sig == 9 || (p.jail.Args[0] != "stubborn" && sig == 15) {
		p.finish(128 + sig)
	}
	return nil
}

func (b *procSeam) Wait(ctx context.Context, h *brig.Handle) (brig.Exit, error) {
	b.world.mu.Lock()
	p := b.jails[h.JailID]
	b.world.mu.Unlock()
	if p == nil {
		return brig.Exit{}, errors.New("no such jail")
	}
	select {
	case <-p.done:
		return *p.exit, nil
	case <-ctx.Done():
		return brig.Exit{}, ctx.Err()
	}
}
