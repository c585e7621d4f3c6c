// Package dokku is Dokku as the plugin meets it: where it keeps its things, what its files say, and how a plugin of its
// talks to people.
//
// [Env] is the environment that Dokku gives a plugin; its methods read the facts: which apps there are, which containers
// are current, which scheduler runs an app, which ports Dokku's own proxies map. [Process] is the process that makes a
// deploy, [Printer] writes with Dokku's prefixes, reports and help as its core does, [ExitError] carries its exit codes.
//
// All is read from files, and anew on every call; no program is run, since hooks run in every deploy of every app. The
// formats are those of Dokku 0.31 to 0.38; where 0.38 moved a setting from the app's environment to a property file, both
// are understood.
//
// The package knows nothing of routes, mappings, Docker or HAProxy: it tells what Dokku says, not what follows from it.
package dokku
