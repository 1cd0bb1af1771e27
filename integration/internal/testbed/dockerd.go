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

// Dockerd is Debian's dockerd with a containerd of its own, on private folders and sockets. It changes the network of
// the namespace that it runs in, so start it within one that was made for it.
type Dockerd struct {
	Host  string
	procs []*exec.Cmd // in the order of start
}

// StartDockerd keeps everything in dir, whose path must be short, and returns when dockerd answers.
func StartDockerd(ctx context.Context, dir string) (d *Dockerd, err error) {
	d = &Dockerd{Host: "unix://" + filepath.Join(dir, "d.sock")}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	conf := filepath.Join(dir, "containerd.toml")
	if err = os.WriteFile(conf, fmt.Appendf(nil, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\nroot = %q\nstate = %q\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "cr"), filepath.Join(dir, "cs"), filepath.Join(dir, "c.sock")), 0o600); err != nil {
		return d, err
	}
	if err = os.WriteFile(filepath.Join(dir, "none.json"), []byte("{}"), 0o600); err != nil {
		return d, err
	}
	if err = d.start(dir, "containerd", "--config", conf); err != nil {
		return d, err
	}
	for {
		if _, err = os.Stat(filepath.Join(dir, "c.sock")); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return d, fmt.Errorf("containerd: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	err = d.start(dir, "dockerd", "--containerd", filepath.Join(dir, "c.sock"), "--data-root", filepath.Join(dir, "dr"), "--exec-root", filepath.Join(dir, "dx"),
		"--pidfile", filepath.Join(dir, "d.pid"), "--config-file", filepath.Join(dir, "none.json"), "-H", d.Host, "--max-download-attempts", "1")
	if err != nil {
		return d, err
	}
	if err = Ready(ctx, d.Host, nil); err != nil {
		said, _ := os.ReadFile(filepath.Join(dir, "dockerd.log"))
		err = fmt.Errorf("dockerd: %w\n%s", err, said[max(0, len(said)-3000):])
	}
	return d, err
}

func (d *Dockerd) start(dir, program string, args ...string) error {
	log, err := os.Create(filepath.Join(dir, program+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	d.procs = append(d.procs, cmd)
	return nil
}

// Pids are containerd's and dockerd's.
func (d *Dockerd) Pids() (pids []int) {
	for _, cmd := range d.procs {
		pids = append(pids, cmd.Process.Pid)
	}
	return pids
}

// Close ends both programs, by their own pids and the last one first, and waits for them.
func (d *Dockerd) Close() error {
	var errs []error
	for i := len(d.procs) - 1; i >= 0; i-- {
		cmd := d.procs[i]
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(40*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		if !timer.Stop() {
			errs = append(errs, fmt.Errorf("%s did not end within 40 s of SIGTERM", cmd.Path))
		}
	}
	d.procs = nil
	return errors.Join(errs...)
}
