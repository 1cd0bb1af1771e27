package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Podman is Debian's podman as a server of the Docker API ("podman system service") with overlay storage of its own.
type Podman struct {
	Host   string
	cmd    *exec.Cmd
	hidden []hidden // in the order of mounting
}

// hidden is a folder of the host's with a private one mounted over it; made if the host had none.
type hidden struct {
	path string
	made bool
}

// StartPodman keeps everything in dir, whose path must be short, and returns when podman answers. registry (HOST:PORT) is spoken to by
// plain http. What podman keeps outside of its configured folders it is given by mounts, so this works only in a process that
// Reenter started.
func StartPodman(ctx context.Context, dir, registry string) (_ *Podman, err error) {
	if !Inside() {
		return nil, errors.New("podman needs namespaces made for it: see Reenter")
	}
	env, err := podmanFiles(dir, registry)
	if err != nil {
		return nil, err
	}
	p := &Podman{Host: "unix://" + filepath.Join(dir, "s")}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	for from, to := range private() {
		if err := p.hide(ctx, filepath.Join(dir, from), to); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// Podman's crun refuses to work where a v2 hierarchy lies beside those of v1, so podman doesn't see it. Nor do the others see that.
	const alone = `for at; do test "$at" = -- && break; umount "$at"; done; exec podman system service --time 0 "$HOST"`
	cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "sh", "-c", alone, "sh"}, append(hybrid(), "--")...)...)
	cmd.Env = append(append(os.Environ(), env...), "HOST="+p.Host)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start podman: %w", err)
	}
	p.cmd = cmd
	if err := Ready(ctx, p.Host, nil); err != nil {
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("podman: %w\n%s", err, said[max(0, len(said)-3000):])
	}
	return p, nil
}

// hybrid finds where v2's hierarchy is mounted beside v1's, by the path that systemd made customary.
func hybrid() []string {
	const path = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(path + "/cgroup.procs"); err != nil {
		return nil
	}
	return []string{path}
}

// private maps folders of Podman's to those of the host that podman's options don't move.
func private() map[string]string {
	return map[string]string{"shm": "/dev/shm", "lib": "/var/lib/containers", "cni": "/var/lib/cni", "crun": "/run/crun", "libpod": "/run/libpod", "netns": "/run/netns"}
}

// podmanFiles writes podman's configuration and returns the variables that name it. Limits are lowered: crun may not raise them in a
// container where this process itself has no right to.
func podmanFiles(dir, registry string) (env []string, err error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	for d := range private() {
		if err := os.Mkdir(at(d), 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(at("tmp"), 0o700); err != nil {
		return nil, err
	}
	for _, f := range []struct{ variable, name, text string }{
		{"CONTAINERS_REGISTRIES_CONF", "registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", registry)},
		{"CONTAINERS_STORAGE_CONF", "storage.conf", fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", at("g"), at("r"))},
		{"CONTAINERS_CONF", "containers.conf", fmt.Sprintf("[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n"+
			"[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\ntmp_dir = %q\n[network]\nnetwork_config_dir = %q\n", at("tmp"), at("net"))},
	} {
		if err := os.WriteFile(at(f.name), []byte(f.text), 0o600); err != nil {
			return nil, err
		}
		env = append(env, f.variable+"="+at(f.name))
	}
	return append(env, "TMPDIR="+at("tmp")), nil
}

// hide mounts a private folder over one of the host's, for this mount namespace.
func (p *Podman) hide(ctx context.Context, from, to string) error {
	_, err := os.Stat(to)
	h := hidden{to, errors.Is(err, os.ErrNotExist)}
	if h.made {
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
	}
	p.hidden = append(p.hidden, h)
	if out, err := exec.CommandContext(ctx, "mount", "--bind", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("mount --bind %s %s: %w: %s", from, to, err, out)
	}
	return nil
}

// Pid is that of podman's service.
func (p *Podman) Pid() int { return p.cmd.Process.Pid }

// Close ends podman by its own pid, waits for it, and takes away what it was given.
func (p *Podman) Close() error {
	var errs []error
	if p.cmd != nil {
		p.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { p.cmd.Process.Kill() })
		p.cmd.Wait()
		if !timer.Stop() {
			errs = append(errs, errors.New("podman did not end within 20 s of SIGTERM"))
		}
	}
	for _, h := range p.hidden {
		// The mounts go with the namespace in any case; lazily, because podman mounts beneath them.
		exec.Command("umount", "--lazy", h.path).Run()
		if h.made {
			errs = append(errs, os.Remove(h.path))
		}
	}
	return errors.Join(errs...)
}
