package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
)

// A root is the directory that everything is kept in, locked by this process.
type root struct {
	dir      string
	instance string // 8 hex digits that name what this root has on the host outside of it
	lock     *os.File
}

func (r *root) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}

// rootMode keeps the host's users out of what lies beneath: images and containers have programs there that are set to run as root, and
// files with modes that were meant for the container's users alone.
const rootMode = 0o710

// openRoot makes dir if needed, locks it, and reads or makes its instance id. The lock lasts until Close or the process's end.
func openRoot(dir string) (*root, error) {
	if err := os.MkdirAll(dir, rootMode); err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&^rootMode != 0 {
		if err := os.Chmod(dir, st.Mode().Perm()&rootMode); err != nil {
			return nil, fmt.Errorf("keep others out of the root: %w", err)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "brigd.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	r := &root{dir: dir, lock: f}
	if err := r.take(); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// lockPatience is how long the lock of a brigd that is dead may still be held: by a child that it had forked, and that had not come
// to its execve(2), when it was killed.
const lockPatience = 5 * time.Second

// flock locks the root. If its holder's pid is nobody's, it tries again for a while.
func (r *root) flock() error {
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(r.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", r.lock.Name(), err)
		}
		text, _ := os.ReadFile(r.lock.Name())
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		if pid <= 0 || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) || time.Now().After(deadline) {
			return fmt.Errorf("root %s is in use by the brigd with pid %d", r.dir, pid)
		}
	}
}

func (r *root) take() error {
	if err := r.flock(); err != nil {
		return err
	}
	if err := r.lock.Truncate(0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if _, err := r.lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	var err error
	r.instance, err = instance(r.path("instance"))
	return err
}

var instanceRE = regexp.MustCompile(`^[0-9a-f]{8}$`)

// instance returns the id in the file, which it makes if it is missing.
func instance(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		id := string(brig.NewRID()[:8])
		tmp := path + ".new"
		if err := os.WriteFile(tmp, []byte(id+"\n"), 0o600); err != nil {
			return "", fmt.Errorf("make instance id: %w", err)
		}
		return id, os.Rename(tmp, path)
	}
	if err != nil {
		return "", fmt.Errorf("read instance id: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if !instanceRE.MatchString(id) {
		return "", fmt.Errorf("instance id: %s holds %q, not 8 hex digits", path, id)
	}
	return id, nil
}

// Close gives the root up.
func (r *root) Close() error { return r.lock.Close() }
