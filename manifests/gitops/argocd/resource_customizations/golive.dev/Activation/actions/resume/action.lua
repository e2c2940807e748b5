-- Take back a suspension and an abort.
obj.spec.suspend = false
obj.spec.suspendReason = nil
obj.spec.suspendUntil = nil
if obj.metadata.annotations ~= nil then
  obj.metadata.annotations["golive.dev/abort"] = nil
end
return obj
