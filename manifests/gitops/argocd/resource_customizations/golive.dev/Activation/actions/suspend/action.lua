-- Leave the application alone. With automated sync and self-heal, commit it in Git instead.
obj.spec.suspend = true
return obj
