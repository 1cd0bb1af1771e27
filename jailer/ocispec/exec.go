package ocispec

import (
	"slices"

	"github.com/brigd/brig/internal/brig"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Exec is the process of an exec in in.Jail, as in.User.
func Exec(in *Input, e brig.ExecSpec) (*specs.Process, error) {
	j := in.Jail
	p := &specs.Process{
		Args: e.Args, Terminal: e.TTY, NoNewPrivileges: j.Spec.NoNewPrivileges, User: in.User.Spec(),
		Env: Env(j.Hostname, e.TTY, in.User.Home, j.Env, e.Env), Cwd: Cwd(j.Cwd),
	}
	if e.WorkingDir != "" {
		p.Cwd = Cwd(e.WorkingDir)
	}
	if e.TTY && e.ConsoleRows > 0 && e.ConsoleCols > 0 {
		p.ConsoleSize = &specs.Box{Height: e.ConsoleRows, Width: e.ConsoleCols}
	}
	s := &specs.Spec{Process: p}
	if _, err := ulimits(in, s); err != nil {
		return nil, err
	}
	if _, err := oomScore(in, s); err != nil {
		return nil, err
	}
	want, _, err := Caps(j.Spec.Privileged || e.Privileged, j.Spec.CapAdd, j.Spec.CapDrop)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, c := range want {
		if slices.Contains(in.Host.Caps, c) {
			have = append(have, c)
		}
	}
	p.Capabilities = capSets(have, p.User.UID)
	return p, nil
}
