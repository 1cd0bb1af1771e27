package tarfs

import "testing"

func mountOverlay(t *testing.T, _, _, _ string) { t.Skip("no overlayfs on this system") }
