//go:build linux || freebsd

package jailer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/jailer/shim"
	"golang.org/x/sys/unix"
)

// Start has the shim run the bundle. See runtime.Processes.
func (j *Jailer) Start(ctx context.Context, h *brig.Handle) error {
	argv, args0, err := j.runArgv(h)
	if err != nil {
		return err
	}
	j.beforeStart()
	f, err := ask(ctx, h, shim.ReqStart, argv...)
	j.afterStart(h, err)
	if err != nil {
		return startError("create", args0, noRoom(h.Dir, err))
	}
	h.InitPID, err = strconv.Atoi(f[0])
	return err
}

// noRoom adds what an OCI runtime may not say of a failure: that the disk is full.
func noRoom(dir string, err error) error {
	var f *shimFailure
	var st unix.Statfs_t
	if !errors.As(err, &f) || unix.Statfs(dir, &st) != nil || uint64(st.Bavail)*uint64(st.Bsize) >= 1<<20 && (st.Files == 0 || uint64(st.Ffree) > 16) || strings.Contains(f.text, unix.ENOSPC.Error()) {
		return err
	}
	return &shimFailure{f.kind, lastMessage(f.text) + ": " + unix.ENOSPC.Error()}
}

// Attach joins the main process's streams. See runtime.Processes.
func (j *Jailer) Attach(ctx context.Context, h *brig.Handle, bio brig.IO) error {
	s, err := open(ctx, h, bio, shim.ReqAttach, flags(bio, false))
	if err != nil {
		return err
	}
	defer s.conn.Close()
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	if bio.Attached != nil {
		bio.Attached()
	}
	if bio.Stdin != nil {
		go s.feed() // ends with the connection, or when its reader's owner closes that
	}
	_, err = s.run()
	if err != nil {
		s.conn.Close()
		s.forsake(ctx, h, "")
	}
	if ctx.Err() != nil && !errors.Is(err, brig.ErrDetached) {
		return ctx.Err()
	}
	return err
}

// Exec runs a further process. See runtime.Processes. The process outlives ctx; its streams end with ctx.
func (j *Jailer) Exec(ctx context.Context, h *brig.Handle, b *brig.Jail, id brig.ID, spec brig.ExecSpec, bio brig.IO) (int, <-chan brig.Exit, error) {
	p, err := j.execProcess(b, spec)
	if err != nil {
		return 0, nil, err
	}
	file := filepath.Join(h.Dir, id.Short()+".json")
	if err = writeJSON(file, p); err != nil {
		return 0, nil, errs.As(errs.NotFound, err)
	}
	defer os.Remove(file)
	fault.Point("exec.written")
	s, err := open(ctx, h, bio, shim.ReqExec, append([]string{string(id), flags(bio, spec.TTY)}, j.execArgv(h, id, file, spec.TTY)...)...)
	if err != nil {
		return 0, nil, err
	}
	if bio.Attached != nil {
		bio.Attached()
	}
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	kind, payload, _, err := shim.ReadFrame(s.conn, nil)
	var f []string
	if err == nil {
		f, err = reply(kind, payload)
	}
	if err != nil {
		stop()
		s.conn.Close()
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		if err == io.EOF { // the shim ends with its container
			return 0, nil, errs.New(errs.Conflict, "the container ended while %q was started in it", spec.Args[0])
		}
		return 0, nil, startError("exec", spec.Args[0], noRoom(h.Dir, err))
	}
	pid, _ := strconv.Atoi(f[0])
	done := make(chan brig.Exit, 1)
	if bio.Stdin != nil {
		go s.feed()
	}
	go func() { // ends with the process or with ctx; done is its owner's handle on it
		defer s.conn.Close()
		defer stop()
		done <- j.execEnd(ctx, h, id, s)
	}()
	return pid, done, nil
}

// execEnd copies until the exec's end. A client that went away doesn't end the process: its exit is still waited for.
func (j *Jailer) execEnd(ctx context.Context, h *brig.Handle, id brig.ID, s *session) brig.Exit {
	exit, err := s.run()
	if err == nil {
		return exit
	}
	s.conn.Close()
	s.forsake(ctx, h, string(id))
	f, werr := ask(context.WithoutCancel(ctx), h, shim.ReqWait, string(id))
	if werr != nil {
		return brig.Exit{Code: 137, Error: errors.Join(err, werr).Error()}
	}
	return exitOf(shim.AppendFields(nil, 0, f...)[5:])
}

// Signal sends a signal. NotFound: the process has ended, or never ran. A shim that somebody has stopped is told to go on. One that
// doesn't answer all the same is an error, Unavailable; if the main process is to be killed, the shim is killed first, and then
// no one knows the exit code.
func (j *Jailer) Signal(ctx context.Context, h *brig.Handle, exec brig.ID, sig int) error {
	wake(h)
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := ask(limited, h, shim.ReqSignal, string(exec), strconv.Itoa(sig))
	if limited.Err() != nil && ctx.Err() == nil {
		if exec == "" && sig == int(unix.SIGKILL) {
			return errs.Wrap(j.killSilent(ctx, h), "kill container %s, whose shim doesn't answer", h.JailID)
		}
		return errs.New(errs.Unavailable, "the container's shim doesn't answer")
	}
	if errs.Is(err, errs.NotFound) && exec == "" && alive(h) {
		return signalChild(h, sig, err)
	}
	return err
}

// wake lets a shim go on that has been stopped by a signal: it could answer nothing, and what waits for it would wait for ever.
func wake(h *brig.Handle) {
	if h.ShimPID <= 0 || !stopped(h.ShimPID) {
		return
	}
	p, err := grasp(h.ShimPID)
	if err != nil {
		return
	}
	defer p.release()
	if alive(h) {
		p.signal(unix.SIGCONT) // ESRCH: it has ended, as the request will show
	}
}

// signalChild signals the main process where the shim lives and can't be asked: its socket has vanished with the run directory. A pid
// beneath the shim is not another container's. why is what it answers if there is none.
func signalChild(h *brig.Handle, sig int, why error) error {
	if h.InitPID <= 0 {
		return why
	}
	p, err := grasp(h.InitPID)
	if err != nil {
		return why
	}
	defer p.release()
	if !beneath(h.InitPID, h.ShimPID) || !alive(h) {
		return errs.Wrap(why, "process %d is not beneath shim %d", h.InitPID, h.ShimPID)
	}
	if err := p.signal(unix.Signal(sig)); err == unix.ESRCH {
		return why
	} else if err != nil {
		return errs.Wrap(err, "signal process %d", h.InitPID)
	}
	return nil
}

// beneath reports whether pid descends from ancestor. An OCI runtime that is about to end may still be between the two.
func beneath(pid, ancestor int) bool {
	for range 4 {
		parent, err := parentOf(pid)
		if err != nil || parent <= 1 {
			return false
		}
		if parent == ancestor {
			return true
		}
		pid = parent
	}
	return false
}

// Resize sets a terminal's size; before the start it is kept for it.
func (j *Jailer) Resize(ctx context.Context, h *brig.Handle, exec brig.ID, rows, cols uint) error {
	_, err := ask(ctx, h, shim.ReqResize, string(exec), strconv.FormatUint(uint64(rows), 10), strconv.FormatUint(uint64(cols), 10))
	return err
}

// Wait returns the main process's end. If the shim has died too, the exit file tells; without one nobody knows the code, and 137 is said.
func (j *Jailer) Wait(ctx context.Context, h *brig.Handle) (brig.Exit, error) {
	f, err := ask(ctx, h, shim.ReqWait)
	if err == nil {
		return exitOf(shim.AppendFields(nil, 0, f...)[5:]), nil
	}
	if ctx.Err() != nil {
		return brig.Exit{}, ctx.Err()
	}
	exit, ferr := readExit(h.Dir)
	if ferr != nil {
		return brig.Exit{}, ferr
	}
	if exit == nil {
		exit = &brig.Exit{Code: 137, Error: "the exit code is lost: " + err.Error()}
	}
	return *exit, nil
}

// readExit reads the exit file: nil if there is none, or if power loss has left it torn.
func readExit(dir string) (*brig.Exit, error) {
	b, err := os.ReadFile(filepath.Join(dir, shim.ExitName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var e brig.Exit
	if json.Unmarshal(b, &e) != nil {
		return nil, nil
	}
	return &e, nil
}

// killAndWait kills pid if still says that it is the right one, checked once it is held.
func killAndWait(ctx context.Context, pid int, still func() bool) error {
	p, err := grasp(pid)
	if err == unix.ESRCH || err == unix.EINVAL {
		return nil
	} else if err != nil {
		return err
	}
	defer p.release()
	if !still() {
		return nil
	}
	if err = p.signal(unix.SIGKILL); err != nil && err != unix.ESRCH {
		return err
	}
	return p.wait(ctx)
}
