package integration

// Reasons that many builds share.
const (
	skips     = "brig carries out only the stages that the image needs, as BuildKit does; the numbers of steps are of these"
	laterWord = "the words of later daemons, and of BuildKit's parser"
	keeps     = "dockerd sets the owner after the mode, by which the kernel takes setuid and capabilities away; brig keeps them, as BuildKit does"
	crunWord  = "crun's words and runc's"
)

// buildDiffers names the builds of TestBuildTable that brig carries out or reports otherwise than dockerd 20.10's classic builder, and why. What brig does
// is in testdata/build-brig.txt.
var buildDiffers = map[string]string{
	"from/unused-stage":        skips,
	"from/target-number":       "brig knows stages by their numbers here too, as BuildKit does",
	"from/twice-the-same-name": "brig says so before it begins",
	"from/continued":           laterWord,
	"copy/chown-of-stage":      keeps,
	"copy/special-modes":       keeps,
	"copy/capability":          keeps,
	"copy/archive-over":        "--chown is for what an archive brings too, as with BuildKit; dockerd ignores it there",
	"fails/arg-alone":          laterWord,
	"fails/bad-image-name":     laterWord,
	"fails/copy-flag":          laterWord,
	"fails/copy-from-bad-name": laterWord,
	"fails/env-substitution":   laterWord,
	"fails/expose-port":        laterWord,
	"fails/expose-range":       laterWord,
	"fails/from-flag":          laterWord,
	"fails/other-platform":     "brig says which platforms there are, and nothing before it knows that one is there to be pulled",
	"fails/run-exec-not-found": crunWord,
	"fails/run-flag":           laterWord,
	"fails/run-no-shell":       crunWord,
	"fails/stopsignal":         laterWord,
}
