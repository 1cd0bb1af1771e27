//go:build linux || freebsd

package jailer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"golang.org/x/sys/unix"
)

// TestDaemonDies drops everything that a daemon has of a jail, and takes it up again with another Jailer.
func TestDaemonDies(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		j := b.jail("sh", "-c", "echo one; read x; echo two; exit 7")
		j.Spec.OpenStdin = true
		h := b.create(j)
		if running, exit, err := b.Adopt(b.Context(), h); running || exit != nil || err != nil {
			b.Errorf("before the start: %v %v %v", running, exit, err)
		}
		ctx, die := context.WithCancel(b.Context())
		out := newBuffer()
		done := make(chan error, 2)
		attached := make(chan struct{})
		go func() { done <- b.Attach(ctx, h, brig.IO{Stdout: out, Attached: func() { close(attached) }}) }()
		<-attached
		b.start(h)
		go func() { _, err := b.Wait(ctx, h); done <- err }()
		out.await("one")
		die()
		for range 2 {
			if err := <-done; !errors.Is(err, context.Canceled) {
				b.Errorf("got %v", err)
			}
		}
		saved, _ := json.Marshal(h)
		var again brig.Handle
		json.Unmarshal(saved, &again)
		next, err := New(b.config(b.Facts().RuntimePath))
		if err != nil {
			b.Fatal(err)
		}
		if running, exit, err := next.Adopt(b.Context(), &again); !running || exit != nil || err != nil {
			b.Fatalf("adopt: %v %v %v", running, exit, err)
		}
		go next.Attach(b.Context(), &again, brig.IO{Stdin: strings.NewReader("\n")})
		if exit, err := next.Wait(b.Context(), &again); exit.Code != 7 || err != nil {
			b.Errorf("wait: %+v %v", exit, err)
		}
		if running, exit, err := next.Adopt(b.Context(), &again); running || err != nil || exit == nil || exit.Code != 7 {
			b.Errorf("adopt after the end: %v %+v %v", running, exit, err)
		}
		log, _ := os.ReadFile(j.LogPath)
		if strings.Count(string(log), `{"log":"one\n","stream":"stdout","time":"`) != 1 || !strings.Contains(string(log), `"two\n"`) {
			b.Errorf("log %s", log)
		}
		// The shim is killed too: the exit file still tells.
		if err := unix.Kill(again.ShimPID, unix.SIGKILL); err != nil {
			b.Error(err)
		}
		if exit, err := next.Wait(b.Context(), &again); exit.Code != 7 || err != nil {
			b.Errorf("exit file: %+v %v", exit, err)
		}
	})
}

// TestStalledClient sees that a client that stops reading holds the process up, and that its going away doesn't.
func TestStalledClient(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		h := b.create(b.jail("sh", "-c", "seq 1 200000; exit 4"))
		ctx, leave := context.WithCancel(b.Context())
		r, w := io.Pipe()
		stalled := b.attachTo(ctx, h, brig.IO{Stdout: w})
		good := newBuffer()
		done := b.attach(h, brig.IO{Stdout: good})
		b.start(h)
		if _, err := r.Read(make([]byte, 10)); err != nil {
			b.Fatal(err)
		}
		leave()
		r.CloseWithError(io.ErrClosedPipe)
		<-stalled
		if exit := b.wait(h); exit.Code != 4 {
			b.Errorf("exit %+v", exit)
		}
		<-done
		if !strings.HasSuffix(good.String(), "\n199999\n200000\n") || !strings.HasPrefix(good.String(), "1\n2\n") {
			b.Errorf("the other client got %d bytes", len(good.String()))
		}
		// Attach after the end returns at once.
		if err := b.Attach(b.Context(), h, brig.IO{Stdout: newBuffer()}); err != nil {
			b.Errorf("attach after the end: %v", err)
		}
	})
}

func (b *bench) attachTo(ctx context.Context, h *brig.Handle, bio brig.IO) <-chan error {
	attached, done := make(chan struct{}), make(chan error, 1)
	bio.Attached = func() { close(attached) }
	go func() { done <- b.Attach(ctx, h, bio) }()
	<-attached
	return done
}

type detacher struct{ first io.Reader }

func (d *detacher) Read(p []byte) (int, error) {
	if n, err := d.first.Read(p); err == nil {
		return n, nil
	}
	return 0, brig.ErrDetached
}

func TestDetach(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		j := b.jail("cat")
		j.Spec.OpenStdin, j.Spec.StdinOnce = true, true
		h := b.create(j)
		b.start(h)
		if err := b.Attach(b.Context(), h, brig.IO{Stdin: &detacher{strings.NewReader("x")}, CloseStdin: true}); !errors.Is(err, brig.ErrDetached) {
			b.Errorf("got %v", err)
		}
		if running, _, _ := b.Adopt(b.Context(), h); !running {
			b.Error("detaching has ended the process")
		}
	})
}

func TestSweepAndDestroy(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		keep, drop, never := b.create(b.jail("sleep", "1000")), b.create(b.jail("sleep", "1000")), b.create(b.jail("true"))
		b.start(keep)
		b.start(drop)
		if err := b.Sweep(b.Context(), []*brig.Handle{keep}); err != nil {
			b.Fatal(err)
		}
		if running, _, err := b.Adopt(b.Context(), keep); !running {
			b.Errorf("the sweep has ended a jail that lives: %v", err)
		}
		for _, h := range []*brig.Handle{drop, never} {
			if _, err := os.Stat(h.Dir); !os.IsNotExist(err) {
				b.Errorf("%s is still there", h.Dir)
			}
			if err := b.Signal(b.Context(), h, "", 9); !errs.Is(err, errs.NotFound) {
				b.Errorf("signal: %v", err)
			}
		}
		for range 2 {
			if err := b.Destroy(b.Context(), drop); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestManyAtOnce runs many jails side by side; each one's output, exit code and log are its own, and complete.
func TestManyAtOnce(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		const workers, each = 8, 5
		failed := make(chan error, workers)
		for w := range workers {
			go func() {
				var err error
				for i := range each {
					err = errors.Join(err, b.one(w*each+i))
				}
				failed <- err
			}()
		}
		for range workers {
			if err := <-failed; err != nil {
				b.Error(err)
			}
		}
	})
}

// one runs a jail that writes n and exits with it.
func (b *bench) one(n int) error {
	j := b.jail("sh", "-c", "echo out"+itoa(n)+"; exit "+itoa(n))
	h, _, err := b.Create(b.Context(), j)
	if err != nil {
		return err
	}
	out := newBuffer()
	attached, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- b.Attach(b.Context(), h, brig.IO{Stdout: out, Attached: func() { close(attached) }})
	}()
	select {
	case <-attached:
	case err = <-done:
		return errors.Join(err, b.Destroy(b.Context(), h))
	}
	err = b.Start(b.Context(), h)
	exit, werr := b.Wait(b.Context(), h)
	err = errors.Join(err, werr, b.Destroy(b.Context(), h), <-done)
	log, lerr := os.ReadFile(j.LogPath)
	if want := "out" + itoa(n) + "\n"; exit.Code != n || out.String() != want || !strings.Contains(string(log), `"log":"out`+itoa(n)+`\n"`) {
		err = errors.Join(err, errors.New(itoa(n)+": got "+out.String()+", "+itoa(exit.Code)+", log "+string(log)))
	}
	return errors.Join(err, lerr)
}
