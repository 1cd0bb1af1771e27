package ocispec

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultPath is what dockerd gives a container without PATH.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func env(in *Input, s *specs.Spec) ([]string, error) {
	env := Env(in.Jail.Hostname, in.Jail.Spec.TTY, in.User.Home, in.Jail.Env)
	if n := len(in.Jail.Spec.Sockets); n > 0 { // sd_listen_fds(3)
		env = setEnv(setEnv(env, "LISTEN_PID=1"), "LISTEN_FDS="+strconv.Itoa(n))
	}
	s.Process.Env = env
	return nil, nil
}

// Env composes an environment in dockerd's order: PATH, HOSTNAME, TERM with a terminal, then the container's own, whose values win
// in place, and HOME at the end. A name without "=" removes.
func Env(hostname string, tty bool, home string, own ...[]string) []string {
	out := []string{"PATH=" + DefaultPath, "HOSTNAME=" + hostname}
	if tty {
		out = append(out, "TERM=xterm")
	}
	for _, list := range own {
		for _, kv := range list {
			out = setEnv(out, kv)
		}
	}
	for _, kv := range out {
		if strings.HasPrefix(kv, "HOME=") {
			return out
		}
	}
	if home == "" {
		home = "/"
	}
	return append(out, "HOME="+home)
}

func setEnv(env []string, kv string) []string {
	key, _, set := strings.Cut(kv, "=")
	if key == "" {
		return env
	}
	for i, old := range env {
		if k, _, _ := strings.Cut(old, "="); k == key {
			if set {
				env[i] = kv
				return env
			}
			return append(env[:i], env[i+1:]...)
		}
	}
	if set {
		env = append(env, kv)
	}
	return env
}
