//go:build linux || freebsd

package jailer

import (
	"cmp"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/erase"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/logfile/logline"
	"github.com/brigd/brig/jailer/ocispec"
	"github.com/brigd/brig/jailer/shim"
	"golang.org/x/sys/unix"
)

// handleVersion is the version of Handles made here.
const handleVersion = 1

// findUser looks a user up in the container's own files, opened so that no link leads out of root. A user or group that is an absolute path
// is the owner of that file (appc spec, aci.md).
func findUser(root, name string, add []string) (ocispec.User, error) {
	name, err := owners(root, name)
	if err != nil {
		return ocispec.User{}, err
	}
	files := [2]io.ReadSeeker{}
	for i, p := range []string{"etc/passwd", "etc/group"} {
		f, err := openIn(root, p)
		if err == nil {
			defer f.Close()
			files[i] = f
		}
	}
	return ocispec.FindUser(name, add, files[0], files[1])
}

// owners puts numbers in the place of paths in user[:group].
func owners(root, name string) (string, error) {
	parts := strings.SplitN(name, ":", 2)
	for i, p := range parts {
		if !strings.HasPrefix(p, "/") {
			continue
		}
		uid, gid, err := ownerIn(root, p)
		if err != nil {
			return "", errs.New(errs.Invalid, "unable to find %s %s: no matching entries in %s file, and no file whose owner it is: %w",
				[]string{"user", "group"}[i], p, []string{"passwd", "group"}[i], err)
		}
		parts[i] = strconv.Itoa([]int{uid, gid}[i])
	}
	return strings.Join(parts, ":"), nil
}

// execUser is who an exec in b runs as: the container's user unless it names another.
func execUser(b *brig.Jail, spec brig.ExecSpec) (ocispec.User, error) {
	if len(spec.Args) == 0 {
		return ocispec.User{}, errs.New(errs.Invalid, "No exec command specified")
	}
	return findUser(b.Root, cmp.Or(spec.User, b.Spec.User), b.Spec.GroupAdd)
}

// spawnShim listens on the socket, so that clients can connect at once, and starts the shim with it.
func (j *Jailer) spawnShim(b *brig.Jail, group string) (pid int, start uint64, err error) {
	listener, err := listenIn(b.Dir)
	if err != nil {
		return 0, 0, err
	}
	defer listener.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer null.Close()
	stderr, err := os.OpenFile(filepath.Join(b.Dir, shim.StderrName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, 0, err
	}
	defer stderr.Close()
	syslog, err := syslogOf(b.Log.Syslog)
	if err != nil {
		return 0, 0, err
	}
	listening, err := sockets(b)
	if err != nil {
		return 0, 0, err
	}
	defer closeAll(listening)
	c := shim.Config{
		Sockets:  len(listening),
		Log:      logline.Options{MaxSize: b.Log.MaxSize, MaxFiles: b.Log.MaxFiles, Compress: b.Log.Compress, Attrs: b.Log.Attrs},
		Syslog:   syslog,
		Instance: j.cfg.Instance, ID: string(b.ID), LogPath: b.LogPath, TTY: b.Spec.TTY, Stdin: b.Spec.OpenStdin, Linger: j.cfg.Linger,
	}
	files := []*os.File{null, null, stderr, listener}
	if program := j.runtimeFor(&c, group); program != nil {
		defer program.Close()
		files, c.Sealed = append(files, program), true
	}
	files = append(files, listening...)
	p, err := os.StartProcess(j.cfg.Shim, append([]string{j.cfg.Shim}, c.Args(b.Dir)...), &os.ProcAttr{
		Dir: b.Dir, Env: []string{"GOMAXPROCS=1", "GODEBUG=madvdontneed=1", shim.LogVariable + "=" + c.LogSettings()},
		Files: files, Sys: &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, 0, err
	}
	pid = p.Pid
	p.Release()
	j.mu.Lock()
	j.children[pid] = true
	j.mu.Unlock()
	start, err = startTime(pid)
	return pid, start, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// cleanDir removes what an earlier run left in a run directory.
func cleanDir(dir string) error {
	if err := dropShm(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := erase.All(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}
