// Package build makes images by Dockerfiles: it reads them with BuildKit's parser, plans stages and steps, and carries out the steps that the
// cache doesn't have, each in a clone of the file system that the step before has left.
package build

import (
	"context"

	"github.com/brigd/brig/internal/brig"
)

// Images finds what builds stand on, and takes what they have made.
type Images interface {
	// Base finds an image for a platform ("" for the host's), here or, if it isn't here or pull is set, at its registry. What it needs stays until the
	// session ends.
	Base(ctx context.Context, ref, platform string, pull bool, auths map[string]brig.Auth, progress func(brig.Progress)) (*brig.Base, error)
	// Make makes the image and gives it its names. The same BuiltImage gives the same ID. Without steps it is the base itself.
	Make(ctx context.Context, b brig.BuiltImage) (brig.Digest, error)
}

// Trees keeps the file systems of steps.
type Trees interface {
	// Clone makes a writable clone of a chain ("": empty) and mounts it.
	Clone(ctx context.Context, chain brig.Digest) (brig.Tree, error)
	// Commit makes what a tree has become a chain, in time that doesn't depend on its size; the tree is gone then. size is that of the regular files
	// that came. If nothing has changed, the chain is the tree's parent.
	Commit(ctx context.Context, t brig.Tree) (chain brig.Digest, size int64, err error)
	// Discard removes a tree. It is idempotent.
	Discard(ctx context.Context, t brig.Tree) error
	// View mounts a chain to be read, until the session ends.
	View(ctx context.Context, chain brig.Digest) (path string, err error)
}

// Cache knows steps that were carried out.
type Cache interface {
	// Find returns the newest step with that key, and keeps its chain until the session ends. nil: there is none.
	Find(ctx context.Context, key string) (*brig.Step, error)
	// Keep adds a step; it takes the place of one with the same key.
	Keep(ctx context.Context, s brig.Step) error
	// History lists the steps of an image, as CacheFrom names it, from its base on; NotFound: it isn't here.
	History(ctx context.Context, ref string) ([]brig.Step, error)
	// Dir is a directory that stays between builds, for RUN --mount=type=cache. One that isn't there is made, and filled before anybody has it; where that
	// fails nothing is left of it. With exclusive nobody else uses it until release.
	Dir(ctx context.Context, id string, exclusive bool, fill func(dir string) error) (path string, release func(), err error)
}

// Session is one build's hold on all that it uses, for several goroutines at once: it stays until End, which removes the trees that were not committed.
type Session interface {
	Images
	Trees
	Cache
	End(ctx context.Context)
}

// Workshop begins sessions.
type Workshop interface {
	Begin(ctx context.Context) (Session, error)
}

// Runner runs processes in trees.
type Runner interface {
	// RunStep runs a container on the tree and returns its exit code. When ctx ends it is killed and removed. The tree stays mounted, without anything
	// that the engine had to put into it.
	RunStep(ctx context.Context, r brig.StepRun) (code int, err error)
}
