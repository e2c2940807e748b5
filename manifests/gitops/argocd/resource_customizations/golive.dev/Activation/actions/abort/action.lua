-- Stop the work on the current plan, which the digest names, and leave everything as it is.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["golive.dev/abort"] = obj.status.plan.digest
return obj
