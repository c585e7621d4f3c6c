// Package deploy is the model: which public address leads to which containers, for which app, and how that comes to be.
//
// The data goes one way. A [Host] tells what Dokku and the operator want ([App]), a [Docker] tells which containers there
// are ([Container]), [Build] makes the [Table] of it, and an [Engine] makes the table real. [Reconcile] does all of that
// under one host-wide lock; nothing else applies a table.
//
// The package knows no file of Dokku's, no Docker API and no HAProxy: these are rooms of their own that import this one.
// It must stay that way, so that what decides who gets whose traffic can be read, and tested, without any of them.
package deploy
