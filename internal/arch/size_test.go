package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// The limits of docs/design.md, in lines and methods. Tests may be longer.
const (
	maxFile      = 500
	maxFunction  = 100
	maxInterface = 5
)

func TestSizes(t *testing.T) {
	set, files := token.NewFileSet(), 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files++
		if n := set.File(f.Pos()).LineCount(); n > maxFile {
			t.Errorf("%s has %d lines, more than %d: where is the seam?", path, n, maxFile)
		}
		ast.Inspect(f, func(n ast.Node) bool { measure(t, set, n); return true })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("only %d files were looked at", files)
	}
}

func measure(t *testing.T, set *token.FileSet, n ast.Node) {
	t.Helper()
	switch n := n.(type) {
	case *ast.FuncDecl:
		if lines := set.Position(n.End()).Line - set.Position(n.Pos()).Line + 1; lines > maxFunction {
			t.Errorf("%s: function %s has %d lines, more than %d", set.Position(n.Pos()), n.Name.Name, lines, maxFunction)
		}
	case *ast.TypeSpec:
		if i, ok := n.Type.(*ast.InterfaceType); ok && i.Methods.NumFields() > maxInterface {
			t.Errorf("%s: interface %s has %d methods, more than %d", set.Position(n.Pos()), n.Name.Name, i.Methods.NumFields(), maxInterface)
		}
	}
}
