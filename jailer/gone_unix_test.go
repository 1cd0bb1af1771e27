//go:build linux || freebsd

package jailer

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// endless is input without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestClientGone kills clients whose input the process can't take just then: it ends all the same, as a pipe does whose writer dies.
func TestClientGone(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		limit, cancel := context.WithTimeout(b.Context(), time.Minute)
		defer cancel()
		j := b.jail("cat")
		j.Spec.OpenStdin, j.Spec.StdinOnce = true, true
		h := b.create(j)
		ctx, leave := context.WithCancelCause(limit)
		r, w := io.Pipe()
		gone := b.attachTo(ctx, h, brig.IO{Stdin: endless{}, Stdout: w, CloseStdin: true})
		b.start(h)
		r.Read(make([]byte, 10)) // cat's output stalls from here on, and so does its input

		ectx, eleave := context.WithCancelCause(limit)
		er, ew := io.Pipe()
		_, done, err := b.Exec(ectx, h, j, brig.NewID(), brig.ExecSpec{Args: []string{"cat"}}, brig.IO{Stdin: endless{}, Stdout: ew, CloseStdin: true})
		if err != nil {
			b.Fatal(err)
		}
		er.Read(make([]byte, 10))
		er.CloseWithError(io.ErrClosedPipe) // noticed at the next write
		defer eleave(nil)
		select {
		case exit := <-done:
			if exit.Code != 0 || exit.Error != "" {
				b.Errorf("exec: %+v", exit)
			}
		case <-limit.Done():
			b.Error("the exec's input doesn't end")
		}
		leave(brig.ErrClientGone)
		r.CloseWithError(io.ErrClosedPipe)
		<-gone
		if exit, err := b.Wait(limit, h); err != nil || exit.Code != 0 {
			b.Errorf("main process: %+v %v", exit, err)
		}
	})
}

// TestDirVanished signals a process whose shim can't be asked any more.
func TestDirVanished(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		h := b.create(b.jail("sleep", "1000"))
		b.start(h)
		done := b.attach(h, brig.IO{Stdout: newBuffer()})
		if err := os.RemoveAll(h.Dir); err != nil {
			b.Fatal(err)
		}
		if err := b.Signal(b.Context(), h, "", 9); err != nil {
			b.Fatalf("signal: %v", err)
		}
		if err := <-done; err != nil {
			b.Errorf("attach: %v", err)
		}
		if err := b.Destroy(b.Context(), h); err != nil {
			b.Errorf("destroy: %v", err)
		}
	})
}

// TestUnborn creates a jail that no daemon ever starts: its shim goes by itself. One that runs stays.
func TestUnborn(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		b.cfg.Linger = 100 * time.Millisecond
		never, runs := b.create(b.jail("true")), b.create(b.jail("sleep", "1000"))
		b.start(runs)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if n, err := startTime(never.ShimPID); err != nil || n != never.ShimStart {
				break
			}
			b.reap()
			if time.Now().After(deadline) {
				b.Fatal("the shim of a jail that is never started stays")
			}
		}
		if running, _, err := b.Adopt(b.Context(), runs); !running || err != nil {
			b.Errorf("a running container's shim has gone: %v", err)
		}
	})
}
