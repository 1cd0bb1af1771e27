//go:build linux || freebsd

package jailer

import (
	"context"
	"strconv"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/shim"
	"golang.org/x/sys/unix"
)

// patience is how long a shim may take to answer before it is killed.
const patience = 10 * time.Second

// Adopt looks at a jail that an earlier daemon made. See runtime.Jails.
func (j *Jailer) Adopt(ctx context.Context, h *brig.Handle) (running bool, exit *brig.Exit, err error) {
	if alive(h) {
		wake(h)
		limited, cancel := context.WithTimeout(ctx, patience)
		f, err := ask(limited, h, shim.ReqPing)
		silent := limited.Err() != nil
		cancel()
		switch {
		case ctx.Err() == nil && silent:
			return true, nil, nil // it is there, and its end will show, or somebody kills it
		case ctx.Err() != nil:
			return false, nil, ctx.Err()
		case err == nil && len(f) > 1 && f[1] == "1":
			e, err := j.Wait(ctx, h)
			return false, &e, err
		case err == nil && f[0] != "0":
			if pid, err := strconv.Atoi(f[0]); err == nil {
				h.InitPID = pid
			}
			return true, nil, nil
		case err == nil:
			return false, nil, nil // made, and not started
		}
	}
	exit, err = readExit(h.Dir)
	return false, exit, err
}

// endShim tells the shim to go and waits for its end, unless it still has output for an attached client.
func (j *Jailer) endShim(ctx context.Context, h *brig.Handle) error {
	defer j.reap()
	wake(h)
	quit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	f, err := ask(quit, h, shim.ReqQuit)
	if err == nil && len(f) > 0 && f[0] != "" {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !alive(h) {
		return nil
	}
	p, err2 := grasp(h.ShimPID)
	if err2 != nil || !alive(h) {
		return nil
	}
	defer p.release()
	if err != nil {
		if err2 = p.signal(unix.SIGKILL); err2 != nil && err2 != unix.ESRCH {
			return errs.Wrap(err2, "kill shim %d", h.ShimPID)
		}
	}
	if err = p.wait(quit); err != nil && ctx.Err() == nil {
		err = p.signal(unix.SIGKILL)
		if err == nil || err == unix.ESRCH {
			err = p.wait(ctx)
		}
	}
	return err
}

// reap collects shims of this process that have ended.
func (j *Jailer) reap() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for pid := range j.children {
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == pid || err == unix.ECHILD {
			delete(j.children, pid)
		}
	}
}
