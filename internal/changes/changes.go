// Package changes applies Dockerfile instructions to an image's config: what docker commit and docker import take as --change, and those of a build.
// BuildKit's parser reads them, so that quoting, escapes and the shell and exec forms are exactly a Dockerfile's.
package changes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

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
	e := NewEditor(c, escape)
	for _, cmd := range commands {
		if _, err := e.Carry(cmd, nil); err != nil {
			return c, errs.As(errs.Invalid, err)
		}
	}
	return e.Config, nil
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
