package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/brigd/brig/internal/errs"
)

// A plan is a Dockerfile up to the stage that is asked for. Its instructions are for one build: carrying them out changes them.
type plan struct {
	escape rune
	meta   []*instructions.ArgCommand // before the first FROM
	stages []*stagePlan
	names  map[string]int // of stages, in lower case
	total  int            // steps that are numbered
	needed []int          // stages to build, ascending; the last one is the target
	warn   func(io.Writer)
	args   *args // with the meta arguments
}

// A stagePlan is one stage.
type stagePlan struct {
	instructions.Stage
	index int
	first int    // number of its FROM among the steps
	base  string // what it is FROM, expanded
	on    int    // the stage that base names, -1 for none
	plat  string // expanded
	err   error  // why base or plat can't be expanded
}

// noStage is what --from means when it names no stage but an image.
const noStage = -1

// parse reads a Dockerfile. name is what errors call it. Invalid, in dockerd's words, whatever is wrong with it.
func parse(dockerfile []byte, name string) (*plan, error) {
	if len(dockerfile) == 0 {
		return nil, errs.New(errs.Invalid, "the Dockerfile (%s) cannot be empty", name)
	}
	doc, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to parse %s: %w", name, err)
	}
	p := &plan{escape: doc.EscapeToken, warn: doc.PrintWarnings, names: map[string]int{}}
	for _, n := range doc.AST.Children {
		x, err := instructions.ParseInstruction(n)
		if err != nil {
			return nil, errs.New(errs.Invalid, "dockerfile parse error line %d: %w", n.StartLine, err)
		}
		if err := p.add(x); err != nil {
			return nil, errs.As(errs.Invalid, err)
		}
	}
	if len(p.stages) == 0 {
		return nil, errs.New(errs.Invalid, "no build stage in current context")
	}
	return p, nil
}

func (p *plan) add(x any) error {
	if s, ok := x.(*instructions.Stage); ok {
		if _, taken := p.byName(s.Name, len(p.stages)); taken {
			return fmt.Errorf("%s stage name already used", strings.ToLower(s.Name))
		}
		if s.Name != "" {
			p.names[strings.ToLower(s.Name)] = len(p.stages)
		}
		p.stages = append(p.stages, &stagePlan{Stage: *s, index: len(p.stages), on: noStage})
		return nil
	}
	cmd, ok := x.(instructions.Command)
	if !ok {
		return fmt.Errorf("%T is not a command type", x)
	}
	if len(p.stages) > 0 {
		s := p.stages[len(p.stages)-1]
		s.Commands = append(s.Commands, cmd)
		return nil
	}
	a, ok := cmd.(*instructions.ArgCommand)
	if !ok {
		return errors.New("no build stage in current context")
	}
	p.meta = append(p.meta, a)
	return nil
}

// byName finds a stage before the one with index before.
func (p *plan) byName(name string, before int) (int, bool) {
	i, ok := p.names[strings.ToLower(name)]
	if !ok || i >= before {
		return noStage, false
	}
	return i, true
}

// from finds the stage that --from means in the stage with index in: by name or by number. noStage: it is an image.
func (p *plan) from(name string, in int) (int, error) {
	if i, ok := p.byName(name, in); ok {
		return i, nil
	}
	i, err := strconv.Atoi(name)
	switch {
	case err != nil:
		return noStage, nil
	case i == in:
		return noStage, errs.New(errs.Invalid, "refers to current build stage")
	case i < 0 || i > in:
		return noStage, errs.New(errs.Invalid, "index out of bounds")
	}
	return i, nil
}

// aim cuts off what comes after the target, gives the last stage the labels, and finds out what has to be built. a is what the build was given.
func (p *plan) aim(target string, labels map[string]string, a *args) error {
	if target != "" {
		i, ok := p.byName(target, len(p.stages))
		if n, err := strconv.Atoi(target); !ok && err == nil && n >= 0 && n < len(p.stages) {
			i, ok = n, true
		}
		if !ok {
			return errs.New(errs.Invalid, "failed to reach build target %s in Dockerfile", target)
		}
		p.stages = p.stages[:i+1]
	}
	last := p.stages[len(p.stages)-1]
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		last.Commands = append(last.Commands, instructions.NewLabelCommand(k, labels[k], true))
	}
	p.args, p.total = a, len(p.meta)
	lex := shell.NewLex(p.escape)
	for _, m := range p.meta {
		if err := a.addMeta(m, lex); err != nil {
			return errs.As(errs.Invalid, err)
		}
	}
	for _, s := range p.stages {
		s.first = p.total + 1
		p.total += 1 + len(s.Commands)
		s.expand(a, lex)
		if s.err == nil {
			s.on, _ = p.byName(s.base, s.index)
		}
	}
	p.need(last.index)
	return p.skip()
}

// skip looks at the stages that nobody needs: what they name must be there, and the arguments that they declare count as used.
func (p *plan) skip() error {
	for _, s := range p.stages {
		if slices.Contains(p.needed, s.index) {
			continue
		}
		for _, cmd := range s.Commands {
			for _, name := range froms(cmd) {
				if _, err := p.from(name, s.index); err != nil {
					return errs.Wrap(err, "invalid from flag value %s", name)
				}
			}
			if a, ok := cmd.(*instructions.ArgCommand); ok {
				for _, kv := range a.Args {
					p.args.used[kv.Key] = true
				}
			}
		}
	}
	return nil
}

// expand replaces the global arguments in FROM.
func (s *stagePlan) expand(a *args, lex *shell.Lex) {
	env := shell.EnvsFromSlice(a.globals())
	if s.Platform != "" {
		if s.plat, _, s.err = lex.ProcessWord(s.Platform, env); s.err != nil {
			s.err = fmt.Errorf("failed to process arguments for platform %s: %w", s.Platform, s.err)
			return
		}
	}
	if s.base, _, s.err = lex.ProcessWord(s.BaseName, env); s.err == nil && s.base == "" {
		s.err = fmt.Errorf("base name (%s) should not be blank", s.BaseName)
	}
}

// need collects the stages that the target needs, as far as the file shows it: triggers of base images may need more.
func (p *plan) need(target int) {
	seen := map[int]bool{}
	var visit func(i int)
	visit = func(i int) {
		if i == noStage || seen[i] {
			return
		}
		seen[i] = true
		visit(p.stages[i].on)
		for _, cmd := range p.stages[i].Commands {
			for _, name := range froms(cmd) {
				if j, err := p.from(name, i); err == nil {
					visit(j)
				}
			}
		}
	}
	visit(target)
	p.needed = slices.Sorted(maps.Keys(seen))
}

// froms lists what an instruction names as --from or from=.
func froms(cmd instructions.Command) (names []string) {
	switch x := cmd.(type) {
	case *instructions.CopyCommand:
		if x.From != "" {
			names = append(names, x.From)
		}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(x) {
			if m.From != "" {
				names = append(names, m.From)
			}
		}
	}
	return names
}

// source is an instruction as the Dockerfile has it.
func source(cmd instructions.Command) string {
	if s, ok := cmd.(fmt.Stringer); ok {
		return s.String()
	}
	return strings.ToUpper(cmd.Name())
}
