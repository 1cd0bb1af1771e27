package build

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A command is what a RUN runs.
type command struct {
	argv   []string
	env    []string
	script *script // that has to be there; nil: none
	net    string
	mounts []mount
}

// A script is a heredoc with an interpreter of its own ("#!"), which the process finds as a file.
type script struct {
	target, data string
}

func (s *stage) runCommand(ctx context.Context, x *instructions.RunCommand) error {
	c, err := s.command(x)
	if err != nil {
		return errs.As(errs.Invalid, err)
	}
	visible := s.args.env(s.ed.Config.Env)
	c.env = slices.Concat(s.ed.Config.Env, visible)
	by := strings.Join(c.argv, " ")
	if traces := s.args.traces(visible); len(visible) > 0 {
		by = strings.Join(slices.Concat([]string{fmt.Sprintf("|%d", len(traces))}, traces, c.argv), " ")
	}
	more := slices.Concat(c.argv, []string{"network=" + c.net}, s.args.traces(visible))
	if c.script != nil {
		more = append(more, c.script.data)
	}
	if c.mounts, err = s.mounts(ctx, x); err != nil {
		return err
	}
	for _, m := range c.mounts {
		more = append(more, m.key)
	}
	return s.carry(ctx, action{by: by, key: s.keyOf(by, more...), work: func(ctx context.Context, t brig.Tree) error { return s.execute(ctx, c, t) }})
}

// command reads what is to be run, and refuses what can't be.
func (s *stage) command(x *instructions.RunCommand) (c command, err error) {
	if sec := instructions.GetSecurity(x); sec != "" && sec != instructions.SecuritySandbox {
		return c, errs.New(errs.Invalid, "RUN --security=%s is not allowed: brig runs build steps without privileges only", sec)
	}
	if len(instructions.GetDevices(x)) > 0 {
		return c, errs.New(errs.Invalid, "RUN --device is not supported")
	}
	switch n := instructions.GetNetwork(x); n {
	case instructions.NetworkDefault, "":
		c.net = s.req.Network
	default:
		c.net = string(n)
	}
	args := slices.Clone(x.CmdLine)
	if len(x.Files) > 0 {
		if len(args) != 1 || !x.PrependShell {
			return c, fmt.Errorf("parsing produced an invalid run command: %v", args)
		}
		args[0], c.script = s.heredoc(args[0], x.Files)
	}
	c.argv = args
	if x.PrependShell {
		c.argv = slices.Concat(s.ed.Shell(), args)
	}
	return c, nil
}

// heredoc is the shell's text of a command with heredocs: they are put back where the parser has taken them from, but for a command that is nothing but one
// heredoc, which is the text itself, or a script if it names its interpreter.
func (s *stage) heredoc(line string, files []instructions.ShellInlineFile) (string, *script) {
	if parser.MustParseHeredoc(line) == nil {
		for _, f := range files {
			line += "\n" + f.Data + f.Name
		}
		return line, nil
	}
	data := files[0].Data
	if files[0].Chomp {
		data = parser.ChompHeredocContent(data)
	}
	if !strings.HasPrefix(data, "#!") {
		return data, nil
	}
	dir := "/dev/pipes"
	if s.c.Host.OS == "freebsd" {
		dir = "/.pipes" // nothing can be made in a devfs
	}
	target := path.Join(dir, path.Base("/"+files[0].Name))
	return target, &script{target, data}
}

// execute runs the command in the tree.
func (s *stage) execute(ctx context.Context, c command, t brig.Tree) error {
	spec, err := s.spec(c)
	if err != nil {
		return err
	}
	out := &textWriter{line: func(l string) { s.out.add(brig.BuildLine{Out: l}) }}
	errOut := &textWriter{line: func(l string) { s.out.add(brig.BuildLine{Err: l}) }}
	id := ""
	r := brig.StepRun{
		Tree: t, ImageRef: s.ref(), Platform: s.platform, Spec: spec, Stdout: out, Stderr: errOut,
		Keep: s.req.Keep, KeepFailed: !s.req.ForceRemove,
		Started: func(c brig.ID) { id = string(c); s.out.say(" ---> Running in %s\n", short(id)) },
	}
	if s.base != nil {
		r.Image = s.base.ID
	}
	if c.script != nil {
		dir, err := s.scriptDir(*c.script)
		if err != nil {
			return err
		}
		r.Spec.Mounts = append(r.Spec.Mounts, brig.Mount{Type: brig.MountBind, Source: dir, Target: path.Dir(c.script.target), ReadOnly: true})
	}
	done, err := s.mount(ctx, c.mounts, &r)
	defer done()
	if err != nil {
		return err
	}
	code, err := s.c.Runner.RunStep(ctx, r)
	out.flush()
	errOut.flush()
	failed := err != nil || code != 0
	if id != "" && (failed && s.req.ForceRemove || !failed && !s.req.Keep) {
		s.out.say("Removing intermediate container %s\n", short(id))
	}
	if err == nil && code != 0 {
		err = errs.As(errs.Invalid, &brig.RunFailed{Command: strings.Join(c.argv, " "), Code: code})
	}
	return err
}

// ref is what docker ps shows as the image of a step.
func (s *stage) ref() string {
	if len(s.steps) > 0 || s.base == nil {
		return short(s.key)
	}
	return string(s.base.ID)
}

func (s *stage) spec(c command) (brig.Spec, error) {
	k := s.ed.Config
	spec := brig.Spec{
		Image: s.ref(), User: k.User, Cmd: c.argv, Env: c.env, WorkingDir: k.WorkingDir, Shell: k.Shell, Labels: k.Labels, Volumes: k.Volumes, Exposed: k.Exposed,
		StopSignal: k.StopSignal, AttachOut: true, AttachErr: true,
		NetworkMode: c.net, ExtraHosts: s.req.ExtraHosts, Limits: s.req.Limits, Ulimits: s.req.Ulimits, ShmSize: s.req.ShmSize, CgroupParent: s.req.CgroupParent,
	}
	for _, opt := range s.req.Security {
		switch name, value, _ := strings.Cut(strings.Replace(opt, ":", "=", 1), "="); {
		case name == "no-new-privileges" && (value == "" || value == "true"):
			spec.NoNewPrivileges = true
		case name == "no-new-privileges" && value == "false":
		case name == "seccomp" && value == "unconfined":
			spec.Seccomp = value
		case name == "seccomp" && strings.HasPrefix(value, "{"):
			spec.Seccomp = value
		default:
			return spec, errs.New(errs.Invalid, "security option %q of a build is not supported", opt)
		}
	}
	return spec, nil
}

// scriptDir makes a directory with the script in it.
func (s *stage) scriptDir(sc script) (string, error) {
	dir, err := os.MkdirTemp(s.temp, "script-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	at := filepath.Join(dir, path.Base(sc.target))
	if err := os.WriteFile(at, []byte(sc.data), 0o755); err != nil {
		return "", err
	}
	return dir, os.Chmod(at, 0o755)
}
