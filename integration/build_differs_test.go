package integration

// buildDiffers names the builds of TestBuildTable that brig carries out or reports otherwise than dockerd 20.10's classic builder, and why.
var buildDiffers = map[string]string{}
