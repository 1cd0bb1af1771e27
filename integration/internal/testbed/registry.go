package testbed

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Registry is docker-registry, of the host's packages, on a loopback port.
type Registry struct {
	Addr string // 127.0.0.1:PORT
	cmd  *exec.Cmd
}

// StartRegistry keeps its files in dir. With a user it asks for basic authentication.
func StartRegistry(ctx context.Context, dir, user, password string) (*Registry, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: %q}\n",
		filepath.Join(dir, "data"), addr)
	if user != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost) // docker-registry takes no other kind
		if err != nil {
			return nil, err
		}
		passwords := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(passwords, []byte(user+":"+string(hash)+"\n"), 0o600); err != nil {
			return nil, err
		}
		conf += fmt.Sprintf("auth: {htpasswd: {realm: brig, path: %q}}\n", passwords)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r := &Registry{Addr: addr, cmd: exec.Command("docker-registry", "serve", file)}
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start docker-registry: %w", err)
	}
	for {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return r, nil
		}
		select {
		case <-ctx.Done():
			r.Close()
			return nil, fmt.Errorf("docker-registry at %s: %w", addr, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Close ends the registry and waits for it.
func (r *Registry) Close() {
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

// freeAddr is a loopback address that nobody listened on a moment ago.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
