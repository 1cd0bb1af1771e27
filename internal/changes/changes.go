// Package changes applies Dockerfile instructions to an image's config: what docker commit and docker import take as --change.
// BuildKit's parser reads them, so that quoting, escapes and the shell and exec forms are exactly a Dockerfile's.
package changes

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/sys/signal"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// allowed are the instructions that change nothing but the config.
var allowed = []string{
	"cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild", "stopsignal", "user", "volume", "workdir",
}

// Apply returns a copy of c with instructions, each a line of a Dockerfile, carried out in their order. Variables in them are c's own.
// All errors are Invalid, in dockerd's words.
func Apply(c brig.ImageConfig, lines []string) (brig.ImageConfig, error) {
	commands, escape, err := parse(lines)
	if err != nil || len(commands) == 0 {
		return c, errs.As(errs.Invalid, err)
	}
	e := editor{c: detached(c), lex: shell.NewLex(escape)}
	for _, cmd := range commands {
		if err := e.apply(cmd); err != nil {
			return c, errs.As(errs.Invalid, err)
		}
	}
	return e.c, nil
}

// parse reads all lines before any is carried out.
func parse(lines []string) (commands []instructions.Command, escape rune, err error) {
	if strings.TrimSpace(strings.Join(lines, "")) == "" {
		return nil, 0, nil
	}
	doc, err := parser.Parse(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return nil, 0, err
	}
	for _, n := range doc.AST.Children {
		if !slices.Contains(allowed, strings.ToLower(n.Value)) {
			return nil, 0, fmt.Errorf("%s is not a valid change command", n.Value)
		}
	}
	for _, n := range doc.AST.Children {
		cmd, err := instructions.ParseCommand(n)
		if err != nil {
			return nil, 0, err
		}
		commands = append(commands, cmd)
	}
	return commands, doc.EscapeToken, nil
}

// detached shares with c nothing that an editor changes in place.
func detached(c brig.ImageConfig) brig.ImageConfig {
	c.Env, c.OnBuild = slices.Clone(c.Env), slices.Clone(c.OnBuild)
	c.Volumes, c.Exposed = slices.Clone(c.Volumes), slices.Clone(c.Exposed)
	c.Labels = maps.Clone(c.Labels)
	return c
}

// An editor carries out instructions on a config of its own.
type editor struct {
	c      brig.ImageConfig
	lex    *shell.Lex
	cmdSet bool // by an instruction before
}

func (e *editor) apply(cmd instructions.Command) error {
	env := shell.EnvsFromSlice(e.c.Env)
	if x, ok := cmd.(instructions.SupportsSingleWordExpansion); ok {
		if err := x.Expand(func(word string) (string, error) {
			out, _, err := e.lex.ProcessWord(word, env)
			return out, err
		}); err != nil {
			return err
		}
	}
	switch x := cmd.(type) {
	case *instructions.CmdCommand:
		e.c.Cmd, e.c.ArgsEscaped, e.cmdSet = e.argv(x.ShellDependantCmdLine), false, true
	case *instructions.EntrypointCommand:
		e.c.Entrypoint = e.argv(x.ShellDependantCmdLine)
		if !e.cmdSet {
			e.c.Cmd = nil // it was meant for the entrypoint of before
		}
	case *instructions.EnvCommand:
		for _, kv := range x.Env {
			e.setEnv(kv.Key, kv.Value)
		}
	case *instructions.ExposeCommand:
		return e.expose(x.Ports, env)
	case *instructions.HealthCheckCommand:
		h := x.Health
		e.c.Health = &brig.HealthCheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
			StartInterval: h.StartInterval, Retries: h.Retries}
	case *instructions.LabelCommand:
		if e.c.Labels == nil {
			e.c.Labels = map[string]string{}
		}
		for _, kv := range x.Labels {
			e.c.Labels[kv.Key] = kv.Value
		}
	case *instructions.OnbuildCommand:
		e.c.OnBuild = append(e.c.OnBuild, x.Expression)
	case *instructions.StopSignalCommand:
		e.c.StopSignal = x.Signal
		_, err := signal.ParseSignal(x.Signal)
		return err
	case *instructions.UserCommand:
		e.c.User = x.User
	case *instructions.VolumeCommand:
		return e.volumes(x.Volumes)
	case *instructions.WorkdirCommand:
		return e.workdir(x.Path)
	default:
		return fmt.Errorf("%s is not a valid change command", strings.ToUpper(cmd.Name()))
	}
	return nil
}

// argv is an instruction's command; the shell form runs in the image's shell.
func (e *editor) argv(l instructions.ShellDependantCmdLine) []string {
	if !l.PrependShell {
		return slices.Clone(l.CmdLine)
	}
	sh := e.c.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return slices.Concat(sh, l.CmdLine)
}

func (e *editor) setEnv(key, value string) {
	for i, kv := range e.c.Env {
		if k, _, _ := strings.Cut(kv, "="); k == key {
			e.c.Env[i] = key + "=" + value
			return
		}
	}
	e.c.Env = append(e.c.Env, key+"="+value)
}

func (e *editor) expose(specs []string, env shell.EnvGetter) error {
	seen := map[brig.Port]bool{}
	for _, p := range e.c.Exposed {
		seen[p] = true
	}
	for _, s := range specs {
		words, err := e.lex.ProcessWords(s, env)
		if err != nil {
			return err
		}
		for _, w := range words {
			ports, err := portRange(w)
			if err != nil {
				return err
			}
			for _, p := range ports {
				if !seen[p] {
					seen[p] = true
					e.c.Exposed = append(e.c.Exposed, p)
				}
			}
		}
	}
	return nil
}

// portRange reads port[-port][/proto].
func portRange(s string) ([]brig.Port, error) {
	numbers, proto, ok := strings.Cut(strings.ToLower(s), "/")
	if !ok {
		proto = "tcp"
	}
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
		return nil, fmt.Errorf("invalid proto: %s", proto)
	}
	from, to, ranged := strings.Cut(numbers, "-")
	if !ranged {
		to = from
	}
	first, err := brig.ParsePort(from + "/" + proto)
	if err != nil {
		return nil, fmt.Errorf("invalid containerPort: %s", s)
	}
	last, err := strconv.ParseUint(to, 10, 16)
	if err != nil || uint16(last) < first.Number {
		return nil, fmt.Errorf("invalid containerPort: %s", s)
	}
	var out []brig.Port
	for n := int(first.Number); n <= int(last); n++ {
		out = append(out, brig.Port{Number: uint16(n), Proto: first.Proto})
	}
	return out, nil
}

func (e *editor) volumes(paths []string) error {
	for _, p := range paths {
		if strings.TrimSpace(p) == "" {
			return fmt.Errorf("VOLUME specified can not be an empty string")
		}
		if !slices.Contains(e.c.Volumes, p) {
			e.c.Volumes = append(e.c.Volumes, p)
		}
	}
	slices.Sort(e.c.Volumes)
	return nil
}

// workdir takes a relative path as beneath the directory of before.
func (e *editor) workdir(p string) error {
	if p == "" {
		return fmt.Errorf("cannot normalize nothing")
	}
	if !path.IsAbs(p) {
		p = path.Join("/", e.c.WorkingDir, p)
	}
	e.c.WorkingDir = p
	return nil
}
